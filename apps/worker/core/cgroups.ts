/** What can be done with a cgroup that is there already, by its directory. */
import type { ChildCgroup, Host } from "./host.ts";

/** A task that runs as root may make cgroups below its own; so far down they are followed. */
const MAX_DEPTH = 8;

/** The pids in a cgroup and in what is below it. */
export function processesIn(host: Host, directory: string): number[] {
  const found: number[] = [];
  for (const each of withBelow(host, directory)) {
    for (const line of (host.readTextFile(`${each}/cgroup.procs`) ?? "").split("\n")) if (line !== "") found.push(Number(line));
  }
  return found;
}

/** Kills everything in the cgroups at one stroke where the kernel can (v2). */
export function killCgroups(host: Host, cgroups: readonly ChildCgroup[]): void {
  const self = host.pid();
  for (const { version, directory } of cgroups) {
    // It spares nobody: should this process have got stuck there, the processes are killed one by one instead.
    if (version === 2 && !processesIn(host, directory).includes(self)) host.writeTextFile(`${directory}/cgroup.kill`, "1");
  }
}

/**
 * Holds everything in the cgroups still where the kernel can (v1's freezer): what is held forks no more. A SIGKILL takes effect when
 * it is let go.
 */
export function holdCgroups(host: Host, cgroups: readonly ChildCgroup[]): void {
  const self = host.pid();
  for (const { version, directory } of cgroups) {
    if (version === 1 && !processesIn(host, directory).includes(self)) host.writeTextFile(`${directory}/freezer.state`, "FROZEN");
  }
}

export function letGoCgroups(host: Host, cgroups: readonly ChildCgroup[]): void {
  for (const { version, directory } of cgroups) if (version === 1) host.writeTextFile(`${directory}/freezer.state`, "THAWED");
}

/** Removes the cgroups. False where one still holds a process, if only one that is just ending. */
export function removeCgroups(host: Host, cgroups: readonly ChildCgroup[]): boolean {
  let removed = true;
  for (const { directory } of cgroups) {
    for (const each of withBelow(host, directory)) {
      if (!host.removeDirectory(each) && host.readTextFile(`${each}/cgroup.procs`) !== null) removed = false;
    }
  }
  return removed;
}

/** A cgroup and all below it, from the bottom up. */
function withBelow(host: Host, directory: string, depth = 0): string[] {
  const below: string[] = [];
  for (const name of depth < MAX_DEPTH ? host.listDirectory(directory) : []) {
    const inner = `${directory}/${name}`;
    // A file of the kernel's has nothing below it.
    if (host.readTextFile(`${inner}/cgroup.procs`) !== null) below.push(...withBelow(host, inner, depth + 1));
  }
  return [...below, directory];
}
