import { readFileSync, readlinkSync } from "node:fs";

/** What a process is known by for good: a pid alone is used again. */
export interface ProcessIdentity {
  pid: number;
  /** Field 22 of /proc/<pid>/stat, in clock ticks since boot. */
  startTime?: string;
  /** "pid:[4026531836]": where `pid` counts. Absent where the process could not tell. */
  pidNamespace?: string;
}

/** `unknown`: it lives in another pid namespace, or did not tell its start time, so nothing can be said from here. */
export type Life = "alive" | "gone" | "unknown";

/** Whether the very process that `identity` names still runs. A zombie is gone: it will do nothing any more. */
export function lifeOf(identity: ProcessIdentity, ownNamespace: string | undefined = ownPidNamespace()): Life {
  if (identity.startTime === undefined || identity.pidNamespace === undefined || identity.pidNamespace !== ownNamespace) return "unknown";
  const stat = readStat(identity.pid);
  if (stat === undefined || stat.startTime !== identity.startTime) return "gone";
  return stat.alive ? "alive" : "gone";
}

/** One process as /proc shows it. */
export interface ProcessStat {
  pid: number;
  parent: number;
  session: number;
  /** Field 22 of /proc/<pid>/stat, in clock ticks since boot. */
  startTime: string;
  /** "R", "S", "T" (stopped), "Z" (zombie) … */
  state: string;
  /** False for one that is over and only waits to be reaped. A main thread that is over does not end a process whose other threads run. */
  alive: boolean;
}

/** Reads /proc/<pid>/stat; undefined when there is no such process. */
export function readStat(pid: number): ProcessStat | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  // The second field is the command in parentheses and may hold anything, also blanks and parentheses.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const state = fields[0] ?? "X";
  return {
    pid,
    parent: Number(fields[1]),
    session: Number(fields[3]),
    startTime: fields[19] ?? "",
    state,
    alive: state !== "X" && (state !== "Z" || Number(fields[17]) > 1),
  };
}

export function ownPidNamespace(): string | undefined {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return undefined;
  }
}
