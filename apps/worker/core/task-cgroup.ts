import type { Host } from "./host.ts";

/** Child cgroups of one task below the executor's own: accounted and destroyed by the agent, and a list that no process can leave. */
export interface TaskCgroup {
  directories: string[];
  procsFiles: string[];
  /** The cgroup.procs of the executor's own cgroups, in the same order. */
  homeProcsFiles: string[];
  /** Where the kernel counts OOM kills of the task. */
  oomCounters: OomCounter[];
  /** Where that cannot be: the executor's own counters, which count for all its tasks. */
  sharedOomCounters: OomCounter[];
}

/** A file with a line `oom_kill <count>`, and the count before the task. */
interface OomCounter {
  file: string;
  before: number;
}

/** Controllers whose child cgroup is of use: freezer lists and holds processes, memory tells of an OOM kill. */
const V1_CONTROLLERS = ["freezer", "memory"];

/**
 * Makes child cgroups for a task below the worker's own, where the host lets us: cgroup v2, or the v1 freezer and memory
 * hierarchies. Never elsewhere. Empty when none could be made; then the mark in the environment is all there is.
 */
export function makeTaskCgroup(host: Host, name: string): TaskCgroup {
  const directories: string[] = [];
  const homeProcsFiles: string[] = [];
  const oomCounters: OomCounter[] = [];
  const sharedOomCounters: OomCounter[] = [];
  for (const line of (host.readTextFile("/proc/self/cgroup") ?? "").split("\n")) {
    const [id, controllers = "", ...rest] = line.split(":");
    const path = rest.join(":");
    // In the root cgroup there is no executor's own: a child there would belong to nobody.
    if (path === "" || path === "/") continue;
    const parent = id === "0" && controllers === "" ? `/sys/fs/cgroup${path}` : v1Directory(controllers, path);
    if (parent === undefined) continue;
    const directory = `${parent}/${name}`;
    // Without a hierarchy (an old v1 kernel) a child would escape the executor's memory limit.
    const escapes = (host.readTextFile(`${parent}/memory.use_hierarchy`) ?? "1").trim() === "0";
    const made = !escapes && host.makeDirectory(directory);
    const own = made ? oomCounter(host, directory) : undefined;
    const shared = own === undefined ? oomCounter(host, parent) : undefined;
    if (own !== undefined) oomCounters.push(own);
    if (shared !== undefined) sharedOomCounters.push(shared);
    if (!made) continue;
    directories.push(directory);
    homeProcsFiles.push(`${parent}/cgroup.procs`);
  }
  const procsFiles = directories.map((directory) => `${directory}/cgroup.procs`);
  return { directories, procsFiles, homeProcsFiles, oomCounters, sharedOomCounters };
}

function v1Directory(controllers: string, path: string): string | undefined {
  const wanted = V1_CONTROLLERS.find((controller) => controllers.split(",").includes(controller));
  return wanted === undefined ? undefined : `/sys/fs/cgroup/${wanted}${path}`;
}

/** Kills everything in the cgroup at one stroke where the kernel can (v2). */
export function killCgroup(host: Host, cgroup: TaskCgroup): void {
  for (const directory of cgroup.directories) host.writeTextFile(`${directory}/cgroup.kill`, "1");
}

/**
 * Whether the kernel killed a process of the task for want of memory. A counter that other tasks share speaks for this one only if
 * it did end by SIGKILL.
 */
export function hadOomKill(host: Host, cgroup: TaskCgroup, endedBySigkill: boolean): boolean {
  const rose = ({ file, before }: OomCounter): boolean => (oomKills(host, file) ?? 0) > before;
  return cgroup.oomCounters.some(rose) || (endedBySigkill && cgroup.sharedOomCounters.some(rose));
}

/** cgroup v2 counts in memory.events, v1 in memory.oom_control. */
function oomCounter(host: Host, directory: string): OomCounter | undefined {
  for (const name of ["memory.events", "memory.oom_control"]) {
    const file = `${directory}/${name}`;
    const before = oomKills(host, file);
    if (before !== undefined) return { file, before };
  }
  return undefined;
}

function oomKills(host: Host, file: string): number | undefined {
  const count = /^oom_kill (\d+)$/m.exec(host.readTextFile(file) ?? "")?.[1];
  return count === undefined ? undefined : Number(count);
}

/** Removes the cgroups; those that still hold a process stay for the agent. */
export function removeCgroup(host: Host, cgroup: TaskCgroup): void {
  for (const directory of cgroup.directories) host.removeDirectory(directory);
}
