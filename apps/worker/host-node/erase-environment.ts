import { closeSync, openSync, readFileSync, writeSync } from "node:fs";

/** proc_pid_stat(5): where the text of the environment begins in this process's memory. Fields are counted from 1. */
const ENV_START_FIELD = 50;

/**
 * Overwrites a variable in the memory that the kernel shows as /proc/self/environ; `delete process.env.X` only makes the C library
 * forget it. Where that memory cannot be reached, the text stays readable for our own user and root.
 */
export function eraseFromProc(name: string): void {
  let memory: number | undefined;
  try {
    const stat = readFileSync("/proc/self/stat", "latin1");
    // The second field is the program's name in parentheses and may hold blanks.
    const start = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[ENV_START_FIELD - 3]);
    if (!Number.isSafeInteger(start) || start === 0) return;
    const block = readFileSync("/proc/self/environ");
    memory = openSync("/proc/self/mem", "r+");
    for (let at = 0; at < block.length; ) {
      const zero = block.indexOf(0, at);
      const end = zero === -1 ? block.length : zero;
      if (block.toString("latin1", at, at + Buffer.byteLength(name) + 1) === `${name}=`)
        writeSync(memory, Buffer.alloc(end - at), 0, end - at, start + at);
      at = end + 1;
    }
  } catch {
    // Without procfs there is no /proc/self/environ either.
  } finally {
    if (memory !== undefined) closeSync(memory);
  }
}
