/** How a cgroup is named that a worker makes for a command task. Either side knows by the name whose it is, and the supervisor touches no other. */

/** The worker that made it; digits, as in `Hello`. */
export interface CgroupOwner {
  pid: number;
  startTime: string;
  /** The number in "pid:[4026531836]". */
  pidNamespace: string;
}

/** A file's name has 255 bytes; the owner takes at most 64 of them. */
const MAX_READABLE = 160;

/**
 * `berth-<readable task>.<pid>-<start time>-<pid namespace>-<n>`: unique on the host even where all executors share one cgroup and
 * frameworks use the same task ids. `n` counts the worker's tasks, since the readable part of two ids may be the same.
 */
export function taskCgroupName(taskId: string, { pid, startTime, pidNamespace }: CgroupOwner, n: number): string {
  return `berth-${readable(taskId)}.${pid}-${startTime}-${pidNamespace}-${n}`;
}

/** Who made the cgroup of this name; undefined for one that is not Berth's. With a task id also for one that is another task's. */
export function cgroupOwner(name: string, taskId?: string): CgroupOwner | undefined {
  const match = /^berth-([\w.-]*)\.(\d+)-(\d+)-(\d+)-\d+$/.exec(name);
  if (match === null) return undefined;
  const [, task, pid = "", startTime = "", pidNamespace = ""] = match;
  if (taskId !== undefined && task !== readable(taskId)) return undefined;
  return { pid: Number(pid), startTime, pidNamespace };
}

/** The number of a pid namespace as /proc/<pid>/ns/pid names it; undefined for any other text. */
export function namespaceNumber(text: string): string | undefined {
  return /^pid:\[(\d+)\]$/.exec(text)?.[1];
}

function readable(taskId: string): string {
  return taskId.replace(/[^a-zA-Z0-9_.-]/g, "-").slice(0, MAX_READABLE);
}
