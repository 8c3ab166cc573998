import { readdir } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";

/** So many processes are looked at before others on the main thread have their turn. */
const BATCH = 100;

/** The pids of this machine, as this process sees it, at the moment of the call. */
export async function* everyPid(): AsyncGenerator<number, void, undefined> {
  for (const [index, name] of (await readdir("/proc")).entries()) {
    if (index % BATCH === 0) await setImmediate();
    if (/^\d+$/.test(name)) yield Number(name);
  }
}
