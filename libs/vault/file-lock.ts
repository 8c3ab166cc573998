import { spawn } from "node:child_process";
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";

/** Lets the lock go. */
export type Unlock = () => Promise<void>;

/**
 * Takes an exclusive kernel lock on `path` (made with mode 0600 where it is missing), waiting for its holder up to `waitMs`. Undefined
 * when the lock is not to be had by then. The lock ends with this process, however it ends: there is no stale one to break.
 *
 * Node has no flock(2). The program `flock` of util-linux is given our descriptor; a flock belongs to the open file, so it
 * stays ours when that program has ended.
 */
export async function lockFile(path: string, waitMs: number, signal?: AbortSignal): Promise<Unlock | undefined> {
  const handle = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  try {
    const locked = await flock(handle, waitMs, signal);
    if (locked) return () => handle.close();
  } catch (error) {
    await handle.close();
    throw error;
  }
  await handle.close();
  return undefined;
}

function flock(handle: FileHandle, waitMs: number, signal: AbortSignal | undefined): Promise<boolean> {
  const seconds = (waitMs / 1000).toFixed(3);
  return new Promise((resolve, reject) => {
    const child = spawn("flock", ["-x", "-w", seconds, "3"], {
      stdio: ["ignore", "ignore", "ignore", handle.fd],
      ...(signal === undefined ? {} : { signal }),
    });
    child.on("error", reject);
    child.on("close", (code) => resolve(code === 0));
  });
}
