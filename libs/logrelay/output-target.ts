import type { ByteTarget } from "./file-sink.ts";

/** Bytes that wait for the worker; more is refused, and the sink counts it. */
const MAX_WAITING = 4 * 1024 * 1024;
const PIECE = 64 * 1024;

/** A sandbox stream that only the worker can write to: bytes leave one piece at a time, the next when the last was taken. */
export class OutputTarget implements ByteTarget {
  readonly #give: (bytes: Uint8Array, taken: () => void) => void;
  #waiting: Array<{ piece: Buffer; taken?: () => void }> = [];
  #bytes = 0;
  #away = false;

  constructor(give: (bytes: Uint8Array, taken: () => void) => void) {
    this.#give = give;
  }

  append(bytes: Buffer): Promise<void> {
    if (this.#bytes > 0 && this.#bytes + bytes.length > MAX_WAITING) throw new Error("the worker takes the output too slowly");
    const { promise, resolve } = Promise.withResolvers<void>();
    if (bytes.length === 0) resolve();
    for (let at = 0; at < bytes.length; at += PIECE) {
      const last = at + PIECE >= bytes.length;
      this.#waiting.push({ piece: bytes.subarray(at, at + PIECE), ...(last ? { taken: resolve } : {}) });
    }
    this.#bytes += bytes.length;
    this.#next();
    return promise;
  }

  /** What was not given yet is not given any more. */
  close(): void {
    this.#waiting = [];
    this.#bytes = 0;
  }

  #next(): void {
    if (this.#away) return;
    const next = this.#waiting.shift();
    if (next === undefined) return;
    this.#away = true;
    this.#give(Uint8Array.from(next.piece), () => {
      this.#away = false;
      this.#bytes = Math.max(0, this.#bytes - next.piece.length);
      next.taken?.();
      this.#next();
    });
  }
}
