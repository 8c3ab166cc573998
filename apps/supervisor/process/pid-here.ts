import { readFileSync, readlinkSync } from "node:fs";
import type { Child } from "@berth/protocol";
import { ownPidNamespace, type ProcessIdentity, readStat } from "../executor/process-life.ts";
import { everyPid } from "./every-pid.ts";

/** Processes of other pid namespaces than this process's own, by namespace ("pid:[4026532178]"). */
type Foreign = ReadonlyMap<string, readonly number[]>;

/**
 * Finds the pid that a worker's child has for this process. An agent with the isolator namespaces/pid gives each executor a pid
 * namespace of its own, and the number that the worker knows is somebody else's here, or nobody's.
 */
export class PidFinder {
  #current: Promise<unknown> = Promise.resolve();
  #next: Promise<Foreign> | undefined;

  /** Undefined where the child cannot be found. */
  async find(child: Child, worker: ProcessIdentity): Promise<number | undefined> {
    const isChild = (pid: number): boolean => readStat(pid)?.startTime === child.startTime;
    if (worker.pidNamespace === undefined || countsHere(worker)) return isChild(child.pid) ? child.pid : undefined;
    const pids = (await this.#search()).get(worker.pidNamespace) ?? [];
    return pids.find((pid) => innermostPidOf(pid) === child.pid && isChild(pid));
  }

  /**
   * A search that begins after this call, so that it sees a child that is there by now. Whoever calls while one is under way shares
   * the next: a supervisor that adopts a thousand tasks does not search a thousand times.
   */
  #search(): Promise<Foreign> {
    this.#next ??= this.#current.then(() => {
      this.#next = undefined;
      const search = foreignProcesses();
      this.#current = search.catch(() => {});
      return search;
    });
    return this.#next;
  }
}

/** Whether the pids that a worker tells are those of this process's namespace too; where it could not tell, they are taken for such. */
export function countsHere({ pidNamespace }: ProcessIdentity): boolean {
  return pidNamespace === undefined || pidNamespace === ownPidNamespace();
}

async function foreignProcesses(): Promise<Foreign> {
  const own = ownPidNamespace();
  const found = new Map<string, number[]>();
  for await (const pid of everyPid()) {
    const namespace = namespaceOf(pid);
    if (namespace === undefined || namespace === own) continue;
    const pids = found.get(namespace);
    if (pids === undefined) found.set(namespace, [pid]);
    else pids.push(pid);
  }
  return found;
}

function namespaceOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined;
  }
}

/** The pid that a process has for itself: the last one of those that it has in the namespaces around its own. */
function innermostPidOf(pid: number): number | undefined {
  try {
    const pids = /^NSpid:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    return Number(pids?.split(/\s+/).at(-1));
  } catch {
    return undefined;
  }
}
