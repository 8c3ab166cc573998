import { closeSync, constants, openSync, writeSync } from "node:fs";
import type { ChildCgroup } from "../core/host.ts";

/** How often the way home is tried. */
const MAX_TRIES = 100;

/**
 * Calls `act` while this thread is in the cgroups: a child is born where its parent's thread is. In v1 hierarchies the thread moves
 * alone, which takes microseconds; v2 moves the whole process, for which the kernel may wait some milliseconds. A cgroup without a way
 * home is not entered. `joined` tells whether it was in all of them.
 */
export function visitCgroups<Result>(cgroups: readonly ChildCgroup[], act: () => Result): { result: Result; joined: boolean } {
  const homes: number[] = [];
  let joined = true;
  try {
    for (const { version, directory, home } of cgroups) {
      const file = version === 1 ? "tasks" : "cgroup.procs";
      let way: number | undefined;
      try {
        way = openSync(`${home}/${file}`, constants.O_WRONLY);
        enter(`${directory}/${file}`);
        homes.push(way);
      } catch {
        joined = false;
        if (way !== undefined) closeSync(way);
      }
    }
    return { result: act(), joined };
  } finally {
    for (const home of homes) goHome(home);
  }
}

function enter(file: string): void {
  const tasks = openSync(file, constants.O_WRONLY);
  try {
    // 0 is who writes.
    writeSync(tasks, "0");
  } finally {
    closeSync(tasks);
  }
}

/** A kernel that is short of memory for a moment must not keep the worker among what it will kill. */
function goHome(file: number): void {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    try {
      writeSync(file, "0");
      break;
    } catch {}
  }
  closeSync(file);
}
