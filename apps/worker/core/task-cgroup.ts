import type { Host } from "./host.ts";

/** Child cgroups of one task below the executor's own: accounted and destroyed by the agent, and a list that no process can leave. */
export interface TaskCgroup {
  directories: string[];
  procsFiles: string[];
  /** The cgroup.procs of the executor's own cgroups, in the same order. */
  homeProcsFiles: string[];
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
  for (const line of (host.readTextFile("/proc/self/cgroup") ?? "").split("\n")) {
    const [id, controllers = "", ...rest] = line.split(":");
    const path = rest.join(":");
    // In the root cgroup there is no executor's own: a child there would belong to nobody.
    if (path === "" || path === "/") continue;
    const parent = id === "0" && controllers === "" ? `/sys/fs/cgroup${path}` : v1Directory(controllers, path);
    if (parent === undefined) continue;
    const directory = `${parent}/${name}`;
    if (!host.makeDirectory(directory)) continue;
    directories.push(directory);
    homeProcsFiles.push(`${parent}/cgroup.procs`);
  }
  return { directories, procsFiles: directories.map((directory) => `${directory}/cgroup.procs`), homeProcsFiles };
}

function v1Directory(controllers: string, path: string): string | undefined {
  const wanted = V1_CONTROLLERS.find((controller) => controllers.split(",").includes(controller));
  return wanted === undefined ? undefined : `/sys/fs/cgroup/${wanted}${path}`;
}

/** Kills everything in the cgroup at one stroke where the kernel can (v2). */
export function killCgroup(host: Host, cgroup: TaskCgroup): void {
  for (const directory of cgroup.directories) host.writeTextFile(`${directory}/cgroup.kill`, "1");
}

/** Whether the kernel killed a process of the task for want of memory. */
export function hadOomKill(host: Host, cgroup: TaskCgroup): boolean {
  return cgroup.directories.some((directory) => {
    const text = host.readTextFile(`${directory}/memory.events`) ?? host.readTextFile(`${directory}/memory.oom_control`) ?? "";
    return /^oom_kill [1-9]/m.test(text);
  });
}

/** Removes the cgroups; those that still hold a process stay for the agent. */
export function removeCgroup(host: Host, cgroup: TaskCgroup): void {
  for (const directory of cgroup.directories) host.removeDirectory(directory);
}
