import { namespaceNumber, taskCgroupName } from "@berth/protocol";
import type { ChildCgroup, Host } from "./host.ts";
import { startTimeOf } from "./process-tree.ts";

/** Child cgroups of one task below the executor's own: accounted and destroyed by the agent, and a list that no process can leave. */
export interface TaskCgroup {
  cgroups: ChildCgroup[];
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

/** One of the hierarchies that this process is in. */
interface Hierarchy {
  version: 1 | 2;
  /** The v1 controller for which it is of use; empty for v2. */
  controller: string;
  home: string;
}

/** Controllers whose child cgroup is of use: freezer lists and holds processes, memory tells of an OOM kill. */
const V1_CONTROLLERS = ["freezer", "memory"];

/**
 * Makes child cgroups for a worker's `n`th task below the worker's own, where the host lets us: cgroup v2, or the v1 freezer and
 * memory hierarchies. Never elsewhere. None where none could be made; then the mark in the environment is all there is.
 */
export function makeTaskCgroup(host: Host, taskId: string, n: number): TaskCgroup {
  const made: TaskCgroup = { cgroups: [], oomCounters: [], sharedOomCounters: [] };
  const startTime = startTimeOf(host, "self");
  const pidNamespace = namespaceNumber(host.readLink("/proc/self/ns/pid") ?? "");
  if (startTime === null || pidNamespace === undefined) return made;
  const name = taskCgroupName(taskId, { pid: host.pid(), startTime, pidNamespace }, n);
  let frozen = false;
  // v1 first: where its freezer is to be had, a v2 hierarchy beside it would tell and do nothing more.
  for (const { version, controller, home } of hierarchies(host).sort((a, b) => a.version - b.version)) {
    if (version === 2 && frozen) continue;
    const directory = `${home}/${name}`;
    // Without a hierarchy (an old v1 kernel) a child would escape the executor's memory limit.
    const escapes = (host.readTextFile(`${home}/memory.use_hierarchy`) ?? "1").trim() === "0";
    const success = !escapes && host.makeDirectory(directory);
    const own = success ? oomCounter(host, directory) : undefined;
    const shared = own === undefined ? oomCounter(host, home) : undefined;
    if (own !== undefined) made.oomCounters.push(own);
    if (shared !== undefined) made.sharedOomCounters.push(shared);
    if (!success) continue;
    made.cgroups.push({ version, directory, home });
    frozen ||= controller === "freezer";
  }
  return made;
}

function hierarchies(host: Host): Hierarchy[] {
  const found: Hierarchy[] = [];
  for (const line of (host.readTextFile("/proc/self/cgroup") ?? "").split("\n")) {
    const [id, controllers = "", ...rest] = line.split(":");
    const path = rest.join(":");
    // In the root cgroup there is no executor's own: a child there would belong to nobody.
    if (path === "" || path === "/") continue;
    if (id === "0" && controllers === "") {
      // Beside v1 hierarchies systemd mounts v2 one level down.
      const mount = host.readTextFile("/sys/fs/cgroup/cgroup.controllers") === null ? "/sys/fs/cgroup/unified" : "/sys/fs/cgroup";
      found.push({ version: 2, controller: "", home: `${mount}${path}` });
      continue;
    }
    const controller = V1_CONTROLLERS.find((wanted) => controllers.split(",").includes(wanted));
    if (controller !== undefined) found.push({ version: 1, controller, home: `/sys/fs/cgroup/${controller}${path}` });
  }
  return found;
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
