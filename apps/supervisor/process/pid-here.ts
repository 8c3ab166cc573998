import { readFileSync, readlinkSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import type { Child } from "@berth/protocol";
import { ownPidNamespace, type ProcessIdentity, readStat } from "../executor/process-life.ts";

/** So many processes are looked at before others on the main thread have their turn. */
const BATCH = 100;

/**
 * The pid that a worker's child has for this process. An agent with the isolator namespaces/pid gives each executor a pid namespace
 * of its own, and the number that the worker knows is somebody else's here, or nobody's. Undefined where the child cannot be found.
 */
export async function pidHere(child: Child, worker: ProcessIdentity): Promise<number | undefined> {
  const isChild = (pid: number): boolean => readStat(pid)?.startTime === child.startTime;
  if (countsHere(worker)) return isChild(child.pid) ? child.pid : undefined;
  for (const [index, name] of (await readdir("/proc")).entries()) {
    if (index % BATCH === 0) await setImmediate();
    if (!/^\d+$/.test(name) || namespaceOf(name) !== worker.pidNamespace) continue;
    if (innermostPidOf(name) === child.pid && isChild(Number(name))) return Number(name);
  }
  return undefined;
}

/** Whether the pids that a worker tells are those of this process's namespace too; where it could not tell, they are taken for such. */
export function countsHere({ pidNamespace }: ProcessIdentity): boolean {
  return pidNamespace === undefined || pidNamespace === ownPidNamespace();
}

function namespaceOf(pid: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined;
  }
}

/** The pid that a process has for itself: the last one of those that it has in the namespaces around its own. */
function innermostPidOf(pid: string): number | undefined {
  try {
    const pids = /^NSpid:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    return Number(pids?.split(/\s+/).at(-1));
  } catch {
    return undefined;
  }
}
