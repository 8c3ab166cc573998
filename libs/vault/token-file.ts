import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open, rename, unlink, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { lockFile, type Unlock } from "./file-lock.ts";

/** What the token file holds, or why it is not to be trusted. */
export type TokenFileContent =
  | { state: "absent" }
  | { state: "rejected"; problem: string }
  | { state: "present"; token: string; modifiedAt: number };

const MAX_BYTES = 16 * 1024;

/**
 * The host's token between restarts: a bare token without a newline, mode 0600, as the older executors write and read it.
 * Replaced by rename only, so that no reader ever sees half of one.
 */
export class TokenFile {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** Never throws: a file that cannot be trusted is a reason, not an error. */
  async read(): Promise<TokenFileContent> {
    let handle: FileHandle;
    try {
      handle = await open(this.path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT") return { state: "absent" };
      return { state: "rejected", problem: code === "ELOOP" ? "it is a symbolic link" : `it cannot be opened (${code})` };
    }
    try {
      return await contentOf(handle);
    } catch (error) {
      return { state: "rejected", problem: `it cannot be read (${(error as NodeJS.ErrnoException).code})` };
    } finally {
      await handle.close();
    }
  }

  /** Puts `token` in the file's place, on disk before it returns. */
  async write(token: string): Promise<void> {
    const directory = dirname(this.path);
    const temporary = join(directory, `.berth-token-${process.pid}-${randomBytes(6).toString("hex")}`);
    try {
      const handle = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
      try {
        await handle.writeFile(token);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, this.path);
    } catch (error) {
      await unlink(temporary).catch(() => {});
      throw error;
    }
    await syncDirectory(directory);
  }

  /** The token was renewed: older executors judge the file by its age. */
  async touch(at: Date): Promise<void> {
    await utimes(this.path, at, at);
  }

  /** Keeps other processes of the host from logging in at the same time; see {@link lockFile}. */
  lock(waitMs: number, signal?: AbortSignal): Promise<Unlock | undefined> {
    return lockFile(`${this.path}.lock`, waitMs, signal);
  }
}

async function contentOf(handle: FileHandle): Promise<TokenFileContent> {
  const info = await handle.stat();
  if (!info.isFile()) return { state: "rejected", problem: "it is not a regular file" };
  const self = process.geteuid?.() ?? info.uid;
  if (info.uid !== self) return { state: "rejected", problem: `it belongs to user ${info.uid}, not to ${self}` };
  if ((info.mode & 0o077) !== 0) return { state: "rejected", problem: `its mode ${(info.mode & 0o777).toString(8)} lets others at it` };
  if (info.size > MAX_BYTES) return { state: "rejected", problem: "it is too large to be a token" };
  const text = (await handle.readFile("utf8")).trim();
  if (!/^[\x21-\x7e]+$/.test(text))
    return { state: "rejected", problem: text === "" ? "it is empty" : "it holds something else than a token" };
  return { state: "present", token: text, modifiedAt: info.mtimeMs };
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
