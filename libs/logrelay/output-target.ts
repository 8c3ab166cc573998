import type { ByteTarget } from "./file-sink.ts";

/** Bytes that wait for the worker; more is refused, and the sink counts it. */
const MAX_WAITING = 4 * 1024 * 1024;
const PIECE = 64 * 1024;

/** A sandbox stream that only the worker can write to: bytes leave one piece at a time, the next when the last was taken. */
export class OutputTarget implements ByteTarget {
  readonly #give: (bytes: Uint8Array, taken: () => void) => void;
  #waiting: Buffer[] = [];
  #bytes = 0;
  #away = false;

  constructor(give: (bytes: Uint8Array, taken: () => void) => void) {
    this.#give = give;
  }

  append(bytes: Buffer): void {
    if (this.#bytes + bytes.length > MAX_WAITING) throw new Error("the worker takes the output too slowly");
    for (let at = 0; at < bytes.length; at += PIECE) this.#waiting.push(bytes.subarray(at, at + PIECE));
    this.#bytes += bytes.length;
    this.#next();
  }

  close(): void {}

  #next(): void {
    if (this.#away) return;
    const piece = this.#waiting.shift();
    if (piece === undefined) return;
    this.#bytes -= piece.length;
    this.#away = true;
    this.#give(Uint8Array.from(piece), () => {
      this.#away = false;
      this.#next();
    });
  }
}
