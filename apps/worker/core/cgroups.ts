/** What can be done with a cgroup that is there already, by its directory. */
import type { ChildCgroup, Host } from "./host.ts";

/** A task that runs as root may make cgroups below its own; so far down they are followed. */
const MAX_DEPTH = 8;
const SIGKILL = 9;
const MAX_ROUNDS = 1000;
const HOLD_AT_ROUND = 3;

/** The pids in a cgroup and in what is below it. */
export function processesIn(host: Host, directory: string): number[] {
  return listed(host, withBelow(host, directory));
}

/**
 * SIGKILL for everything in the cgroups. v2 does it at one stroke. In v1 what is listed is killed until the list has nobody new: a process
 * that has got its SIGKILL forks no more, so whoever is missed is listed the next time. A tree that forks faster than that is held
 * still by the freezer, where there is one.
 */
export function killCgroups(host: Host, cgroups: readonly ChildCgroup[]): void {
  const self = host.pid();
  for (const { version, directory } of cgroups) {
    const directories = withBelow(host, directory);
    // Neither spares anybody: should this process have got stuck there, only the others are killed, one by one.
    const stuck = listed(host, directories).includes(self);
    if (version === 2 && !stuck) host.writeTextFile(`${directory}/cgroup.kill`, "1");
    const killed = new Set([self]);
    for (let round = 0; round < MAX_ROUNDS; round++) {
      if (version === 1 && round === HOLD_AT_ROUND && !stuck) host.writeTextFile(`${directory}/freezer.state`, "FROZEN");
      const fresh = listed(host, directories).filter((pid) => !killed.has(pid));
      if (fresh.length === 0) break;
      for (const pid of fresh) {
        host.kill(pid, SIGKILL);
        killed.add(pid);
      }
    }
    // Always, and below it too: a supervisor, an operator or the task itself may have left it held, and what is held does not die.
    if (version === 1) for (const each of directories) host.writeTextFile(`${each}/freezer.state`, "THAWED");
  }
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

function listed(host: Host, directories: readonly string[]): number[] {
  const found: number[] = [];
  for (const directory of directories) {
    for (const line of (host.readTextFile(`${directory}/cgroup.procs`) ?? "").split("\n")) {
      // 0 is a process of a pid namespace that is none of ours.
      if (line !== "" && line !== "0") found.push(Number(line));
    }
  }
  return found;
}
