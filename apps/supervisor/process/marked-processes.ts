import { readFileSync } from "node:fs";
import type { Child } from "@berth/protocol";
import { pause } from "@berth/retry";
import { type ProcessStat, readStat } from "../executor/process-life.ts";
import { everyPid } from "./every-pid.ts";
import { killInCgroups, pidsIn, removeCgroups } from "./task-cgroups.ts";
import { parseTaskMark, TASK_MARK, type TaskMark } from "./task-mark.ts";

/** Which processes are looked for. */
export interface Wanted {
  /** By the mark in their environment. */
  mark: (mark: TaskMark) => boolean;
  /** A task's root, where it is known: whoever is in its session is the task's, marked or not. */
  root?: Child;
  /** Cgroups that hold nothing but such processes: directories that are known to be Berth's. */
  cgroups?: readonly string[];
}

const PREFIX = `${TASK_MARK}=`;
/** A tree that forks while it is killed is searched again; each search kills all that it finds. */
const MAX_SEARCHES = 50;
/** What was killed needs a moment to be gone, milliseconds. */
const SEARCH_AGAIN_MS = 5;

/**
 * The living processes of command tasks that `wanted` names: those that carry a mark or are in a cgroup, what descends from them, and what
 * is in their sessions. Only for what has no worker any more: while one lives, it is the parent and knows better.
 */
async function findTaskProcesses({ mark, root, cgroups = [] }: Wanted): Promise<ProcessStat[]> {
  const all = new Map<number, ProcessStat>();
  const found = new Set<number>();
  for await (const pid of everyPid()) {
    const stat = readStat(pid);
    if (stat?.alive !== true) continue;
    all.set(pid, stat);
    const carried = markOf(pid);
    if (carried !== undefined && mark(carried)) found.add(pid);
  }
  for (const pid of await pidsIn(cgroups)) if (all.has(pid)) found.add(pid);
  addSession(all, found, root);
  addKin(all, found);
  return [...found].map((pid) => all.get(pid)).filter((stat) => stat !== undefined);
}

/** SIGKILL for every process that `wanted` names, until none is left; then its cgroups are removed. Returns how many there were. */
export async function killTaskProcesses(wanted: Wanted): Promise<number> {
  const { cgroups = [] } = wanted;
  const killed = new Set<number>();
  for (let search = 0; search < MAX_SEARCHES; search++) {
    const inCgroups = await killInCgroups(cgroups);
    for (const pid of inCgroups) killed.add(pid);
    const found = await findTaskProcesses(wanted);
    if (found.length === 0 && inCgroups.length === 0) break;
    for (const { pid, startTime } of found) {
      // The pid may have been used again since it was found.
      if (readStat(pid)?.startTime !== startTime) continue;
      try {
        process.kill(pid, "SIGKILL");
        killed.add(pid);
      } catch {} // It ended by itself.
    }
    await pause(SEARCH_AGAIN_MS);
  }
  for (let round = 0; round < MAX_SEARCHES && !(await removeCgroups(cgroups)); round++) await pause(SEARCH_AGAIN_MS);
  return killed.size;
}

/** The root led a session of its own. A session keeps its leader's pid from being used again; another process with it is a stranger. */
function addSession(all: ReadonlyMap<number, ProcessStat>, found: Set<number>, root: Child | undefined): void {
  if (root === undefined || root.startTime === "") return;
  const leader = readStat(root.pid);
  if (leader !== undefined && leader.startTime !== root.startTime) return;
  for (const { pid, session, startTime } of all.values()) {
    if (session === root.pid && Number(startTime) >= Number(root.startTime)) found.add(pid);
  }
}

/** Descendants, and members of sessions whose leader is found itself or is over. */
function addKin(all: ReadonlyMap<number, ProcessStat>, found: Set<number>): void {
  // Descendants of these two would be every task's, and the whole machine's.
  const never = new Set([1, process.pid]);
  for (const pid of never) found.delete(pid);
  let grown = true;
  while (grown) {
    grown = false;
    const sessions = new Set(
      [...found].map((pid) => all.get(pid)?.session ?? 0).filter((leader) => leader > 1 && (found.has(leader) || !all.has(leader))),
    );
    for (const { pid, parent, session } of all.values()) {
      if (found.has(pid) || never.has(pid) || !(found.has(parent) || sessions.has(session))) continue;
      found.add(pid);
      grown = true;
    }
  }
}

function markOf(pid: number): TaskMark | undefined {
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
