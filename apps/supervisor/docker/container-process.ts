import { readFileSync } from "node:fs";
import { readStat } from "../executor/process-life.ts";

/** The main process of a container, by which it can be watched and killed while its engine does not answer. */
export interface ContainerProcess {
  /** The container's id. */
  id: string;
  pid: number;
}

/**
 * Whether the pid that the engine told is, seen from here, a process of that container: the engine may run on another machine or
 * count pids in another namespace. The container's cgroup has its id in its path.
 */
export function isProcessOf({ id, pid }: ContainerProcess): boolean {
  if (pid <= 0 || id === "") return false;
  try {
    return readFileSync(`/proc/${pid}/cgroup`, "latin1").includes(id);
  } catch {
    return false;
  }
}

/** Whether the process still runs. Only for one that {@link isProcessOf} has known in this pid namespace: a pid is used again. */
export function isGone(process: ContainerProcess): boolean {
  return readStat(process.pid)?.alive !== true || !isProcessOf(process);
}

/** Sends a signal past the engine. False: it is gone, or this process may not. */
export function signalDirectly(target: ContainerProcess, signal: string): boolean {
  if (isGone(target)) return false;
  try {
    process.kill(target.pid, /^\d+$/.test(signal) ? Number(signal) : (signal as NodeJS.Signals));
    return true;
  } catch {
    return false;
  }
}
