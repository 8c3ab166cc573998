import { readdirSync, readFileSync } from "node:fs";
import { readStat } from "../executor/process-life.ts";
import { parseTaskMark, TASK_MARK, type TaskMark } from "./task-mark.ts";

/** A process of a command task, known by the mark in its environment. */
export interface MarkedProcess {
  pid: number;
  startTime: string;
  mark: TaskMark;
}

const PREFIX = `${TASK_MARK}=`;
/** A tree that forks while it is killed is searched again; each search kills all that it finds. */
const MAX_SEARCHES = 50;

/**
 * Every living process of the host that carries a task's mark. Only for what has no worker any more: while one lives, it is the
 * parent and knows better.
 */
export function findMarkedProcesses(): MarkedProcess[] {
  const found: MarkedProcess[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const mark = markOf(name);
    if (mark === undefined) continue;
    const stat = readStat(Number(name));
    if (stat !== undefined && stat.state !== "Z" && stat.state !== "X") found.push({ pid: Number(name), startTime: stat.startTime, mark });
  }
  return found;
}

/** SIGKILL for every marked process that `wanted` names, until none is left. Returns how many there were. */
export function killMarkedProcesses(wanted: (mark: TaskMark) => boolean): number {
  let killed = 0;
  for (let search = 0; search < MAX_SEARCHES; search++) {
    const found = findMarkedProcesses().filter((process) => wanted(process.mark));
    if (found.length === 0) break;
    for (const { pid, startTime } of found) {
      // The pid may have been used again since it was found.
      if (readStat(pid)?.startTime !== startTime) continue;
      try {
        process.kill(pid, "SIGKILL");
        killed += 1;
      } catch {} // It ended by itself.
    }
  }
  return killed;
}

function markOf(pid: string): TaskMark | undefined {
  let environment: string;
  try {
    environment = readFileSync(`/proc/${pid}/environ`, "utf8");
  } catch {
    return undefined;
  }
  if (!environment.includes(PREFIX)) return undefined;
  const entry = environment.split("\0").find((variable) => variable.startsWith(PREFIX));
  return entry === undefined ? undefined : parseTaskMark(entry.slice(PREFIX.length));
}
