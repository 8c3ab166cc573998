import { killCgroups, processesIn } from "./cgroups.ts";
import type { ChildCgroup, Host } from "./host.ts";

/** One process as /proc shows it. */
interface Process {
  pid: number;
  parent: number;
  group: number;
  session: number;
  startTime: string;
  /** False for one that is over and only waits to be reaped. A main thread that is over does not end a process whose other threads run. */
  alive: boolean;
  name: string;
}

export interface TreeRoot {
  pid: number;
  startTime: string;
  /** `NAME=value` that every process of the task has in its environment, unless it cleared it; empty where there is none. */
  mark: string;
  /** The task's own cgroups, where they could be made: they list what nothing else finds. */
  cgroups: readonly ChildCgroup[];
}

/** The kernel keeps this many characters of a program's name. */
const NAME_LENGTH = 15;
const SIGKILL = 9;
const SIGTERM = 15;
const SIGCONT = 18;
/** A tree that forks while it is killed is walked again until nothing new turns up; each walk kills all that it finds. */
const MAX_WALKS = 100;

/** Pid's start time (field 22 of /proc/<pid>/stat), or null when there is no such process. */
export function startTimeOf(host: Host, pid: number | "self"): string | null {
  return readProcess(host, String(pid))?.startTime ?? null;
}

/**
 * Sends a signal to every process of a task: the descendants of its root, everything in their sessions and process groups that
 * descends from it, what carries the task's mark, and what its cgroup lists. Processes named in `except` are spared (never by
 * SIGKILL). A stopped process gets SIGCONT behind a SIGTERM, so that it can heed it. Returns how many were signalled.
 */
export function signalTree(host: Host, root: TreeRoot, signal: number, except: readonly string[] = []): number {
  const spared = signal === SIGKILL ? [] : except.map((name) => name.toLowerCase());
  const done = new Map<number, string>();
  if (signal === SIGKILL) killCgroups(host, root.cgroups);
  for (let walk = 0; walk < (signal === SIGKILL ? MAX_WALKS : 1); walk++) {
    let fresh = 0;
    for (const process of membersOf(host, root)) {
      if (spared.length > 0 && spared.includes(nameOf(host, process).toLowerCase())) continue;
      if (done.get(process.pid) === process.startTime) continue;
      // The pid may have been used again since it was listed.
      if (startTimeOf(host, process.pid) !== process.startTime) continue;
      host.kill(process.pid, signal);
      if (signal === SIGTERM) host.kill(process.pid, SIGCONT);
      done.set(process.pid, process.startTime);
      fresh += 1;
    }
    if (fresh === 0) break;
  }
  return done.size;
}

/** Whether anything of the task still runs. */
export function treeIsEmpty(host: Host, root: TreeRoot): boolean {
  if (membersOf(host, root).length > 0) return false;
  // A process that was born while /proc was listed, of one that has ended since, is on no other list.
  const self = host.pid();
  return root.cgroups.every(({ directory }) => processesIn(host, directory).every((pid) => pid === self));
}

/** The living processes of a task. Never this process itself, nor one that it does not own. */
function membersOf(host: Host, root: TreeRoot): Process[] {
  const all = new Map<number, Process>();
  for (const name of host.listDirectory("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const process = readProcess(host, name);
    if (process?.alive === true) all.set(process.pid, process);
  }
  const self = host.pid();
  const members = new Set<number>();
  // A session keeps its leader's pid from being used again; another process with that pid means that our session is over.
  const leader = readProcess(host, String(root.pid));
  const ours = leader === undefined || leader.startTime === root.startTime;
  if (ours && all.has(root.pid)) members.add(root.pid);
  for (const pid of root.cgroups.flatMap(({ directory }) => processesIn(host, directory))) {
    // It may be younger than the list of all.
    const process = all.get(pid) ?? readProcess(host, String(pid));
    if (process?.alive !== true) continue;
    all.set(pid, process);
    members.add(pid);
  }
  for (const process of all.values()) {
    // The root is the leader of a session of its own: whoever is in that session is the task's, its parent gone or not.
    if (ours && process.session === root.pid && Number(process.startTime) >= Number(root.startTime)) members.add(process.pid);
    else if (!members.has(process.pid) && process.pid !== self && hasMark(host, process.pid, root.mark)) members.add(process.pid);
  }
  // Descendants of these two would be every task's, and the whole machine's.
  members.delete(self);
  members.delete(1);
  addDescendants(all, members);
  return [...members].map((pid) => all.get(pid)).filter((process) => process !== undefined);
}

function addDescendants(all: ReadonlyMap<number, Process>, members: Set<number>): void {
  let grown = true;
  while (grown) {
    grown = false;
    for (const process of all.values()) {
      if (members.has(process.pid) || !members.has(process.parent)) continue;
      members.add(process.pid);
      grown = true;
    }
  }
}

/** The program's name; where the kernel cut it, from the command line. */
function nameOf(host: Host, { pid, name }: Process): string {
  if (name.length < NAME_LENGTH) return name;
  const program = (host.readTextFile(`/proc/${pid}/cmdline`) ?? "").split("\0", 1)[0] ?? "";
  const whole = program.slice(program.lastIndexOf("/") + 1);
  return whole.startsWith(name) ? whole : name;
}

function hasMark(host: Host, pid: number, mark: string): boolean {
  if (mark === "") return false;
  const environment = host.readTextFile(`/proc/${pid}/environ`);
  return environment !== null && `\0${environment}`.includes(`\0${mark}\0`);
}

function readProcess(host: Host, pid: string): Process | undefined {
  const text = host.readTextFile(`/proc/${pid}/stat`);
  if (text === null) return undefined;
  const open = text.indexOf("(");
  const close = text.lastIndexOf(")");
  const fields = text.slice(close + 2).split(" ");
  return {
    pid: Number.parseInt(text, 10),
    name: text.slice(open + 1, close),
    alive: fields[0] !== undefined && fields[0] !== "X" && (fields[0] !== "Z" || Number(fields[17]) > 1),
    parent: Number(fields[1]),
    group: Number(fields[2]),
    session: Number(fields[3]),
    startTime: fields[19] ?? "",
  };
}
