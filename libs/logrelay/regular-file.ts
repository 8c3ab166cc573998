import { type BigIntStats, closeSync, constants, fstatSync, openSync } from "node:fs";

/** What is to be read is a symbolic link, a FIFO, a folder … */
export class NotRegularError extends Error {
  override readonly name = "NotRegularError";

  constructor(path: string, why = "is not a regular file") {
    super(`${path} ${why} and is not read`);
  }
}

/** A FIFO without a writer would hold up the open without O_NONBLOCK; a terminal must not become this process's own. */
const FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;

/**
 * Opens a file to read it, and no symbolic link: a task can put anything into its sandbox, and this process may read what the task
 * may not. Throws {@link NotRegularError} for anything but a regular file, and why it cannot be opened.
 */
export function openRegular(path: string): { fd: number; stat: BigIntStats } {
  let fd: number;
  try {
    fd = openSync(path, FLAGS);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // A symbolic link, and a socket.
    if (code === "ELOOP" || code === "ENXIO") throw new NotRegularError(path);
    throw error;
  }
  const stat = fstatSync(fd, { bigint: true });
  if (stat.isFile()) return { fd, stat };
  closeSync(fd);
  throw new NotRegularError(path);
}
