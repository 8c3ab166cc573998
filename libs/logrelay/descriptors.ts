import { closeSync } from "node:fs";
import type { Libc } from "./libc.ts";

const SLOTS = 1024;
const FREE = -1;

/**
 * The sockets that a thread has by the C library, in memory that outlives it: Node closes its own when a thread dies, and knows nothing
 * of these. A slot is freed before its socket is closed, so that nothing is ever closed twice.
 */
export class Descriptors {
  readonly shared: SharedArrayBuffer;
  readonly #slots: Int32Array;

  /** Without `shared`: an empty one. */
  constructor(shared?: SharedArrayBuffer) {
    this.shared = shared ?? new SharedArrayBuffer(SLOTS * Int32Array.BYTES_PER_ELEMENT);
    this.#slots = new Int32Array(this.shared);
    if (shared === undefined) this.#slots.fill(FREE);
  }

  /** The same calls, with each socket noted. */
  noted(libc: Libc): Libc {
    return {
      ...libc,
      socket: (domain, type, protocol) => {
        const fd = libc.socket(domain, type, protocol);
        if (fd >= 0) this.#replace(FREE, fd);
        return fd;
      },
      close: (fd) => {
        this.#replace(fd, FREE);
        return libc.close(fd);
      },
    };
  }

  /** Closes what a thread that is dead has left. */
  closeAll(): void {
    for (const [slot, fd] of this.#slots.entries()) {
      if (fd === FREE) continue;
      this.#slots[slot] = FREE;
      closeSync(fd);
    }
  }

  #replace(before: number, now: number): void {
    const slot = this.#slots.indexOf(before);
    if (slot >= 0) this.#slots[slot] = now;
  }
}
