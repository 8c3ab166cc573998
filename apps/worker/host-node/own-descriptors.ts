import { constants, fstatSync, openSync, write, writeSync } from "node:fs";

type Descriptor = 1 | 2;

/** What a thread is given at a time. */
const CHUNK_BYTES = 64 * 1024;

/**
 * The worker's own stdout and stderr, written to without waiting for whoever reads them. O_NONBLOCK belongs to what the agent and the
 * children share with us, so it is not set: a pipe is opened once more, for us alone. Where that is not allowed (another user made
 * the pipe, or it is a socket) a thread does the waiting.
 */
export class OwnDescriptors {
  /** Where to write; null: only a thread may. */
  readonly #direct = new Map<Descriptor, number | null>();
  readonly #busy = new Set<Descriptor>();

  /** A thread is in the middle of a write. */
  get busy(): boolean {
    return this.#busy.size > 0;
  }

  /** As `Host.writeDescriptor`. */
  write(fd: Descriptor, bytes: Uint8Array): number {
    const direct = this.#direct.get(fd) ?? openDirect(fd);
    this.#direct.set(fd, direct);
    if (direct === null) return this.#byThread(fd, bytes);
    let at = 0;
    while (at < bytes.length) {
      try {
        at += writeSync(direct, bytes, at);
      } catch (error) {
        // Anything but a full pipe (EPIPE: its reader is gone) cannot be mended.
        return (error as NodeJS.ErrnoException).code === "EAGAIN" ? at : bytes.length;
      }
    }
    return at;
  }

  #byThread(fd: Descriptor, bytes: Uint8Array): number {
    if (this.#busy.has(fd) || bytes.length === 0) return 0;
    const chunk = bytes.slice(0, CHUNK_BYTES);
    this.#busy.add(fd);
    const next = (at: number): void =>
      write(fd, chunk, at, chunk.length - at, null, (error, count) => {
        if (error === null && at + count < chunk.length) next(at + count);
        else this.#busy.delete(fd);
      });
    next(0);
    return chunk.length;
  }
}

function openDirect(fd: Descriptor): number | null {
  try {
    const stat = fstatSync(fd);
    if (stat.isSocket()) return null;
    if (!stat.isFIFO()) return fd;
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch (error) {
    // A pipe without a reader cannot be opened (ENXIO), and a write to it fails at once.
    return (error as NodeJS.ErrnoException).code === "EACCES" ? null : fd;
  }
}
