import type { Parcel } from "./transport.ts";

/** What the kernel took so long before a break at most, and so many bytes of it, may not have arrived. */
const WINDOW_MS = 2_000;
const MOST_BYTES = 4 * 1024 * 1024;
const CHUNK_BYTES = 256 * 1024;
/** Chunks that are kept for what comes. */
const SPARE_CHUNKS = 2;

interface Chunk {
  bytes: Buffer;
  /** Entries in it. */
  used: number;
}

interface Entry {
  at: number;
  chunk: Chunk;
  start: number;
  length: number;
  frames: number;
  resent: Parcel["resent"];
  refused: Parcel["refused"];
  tries: number;
}

/**
 * The bytes that a connection delivered lately. They are copied into chunks that are used again and again: parcels that were kept
 * themselves would grow old in the heap, all of them, for a break that hardly ever comes.
 */
export class ResendWindow {
  readonly #entries: Entry[] = [];
  readonly #spare: Chunk[] = [];
  #bytes = 0;
  #current: Chunk | undefined;
  #filled = 0;

  /** Keeps what the kernel took at this moment (performance.now()), and forgets what is too old or too much. */
  keep({ bytes, ends, resent, refused, tries = 1 }: Parcel, at: number): void {
    const chunk = this.#chunkFor(bytes);
    const start = chunk === this.#current ? this.#filled : 0;
    if (chunk === this.#current) {
      bytes.copy(chunk.bytes, start);
      this.#filled += bytes.length;
    }
    chunk.used += 1;
    this.#entries.push({ at, chunk, start, length: bytes.length, frames: ends.length, resent, refused, tries });
    this.#bytes += bytes.length;
    let old = 0;
    for (const entry of this.#entries) {
      if (at - entry.at <= WINDOW_MS && (this.#bytes <= MOST_BYTES || old === this.#entries.length - 1)) break;
      this.#forget(entry);
      old += 1;
    }
    if (old > 0) this.#entries.splice(0, old);
  }

  /** Parcels of what was taken within the window before `until`; all that is kept where that is not known. Empties the window. */
  take(until: number | undefined): Parcel[] {
    const entries = this.#entries.splice(0);
    const parcels = entries.filter(({ at }) => until === undefined || until - at <= WINDOW_MS).map(parcelOf);
    for (const entry of entries) this.#forget(entry);
    return parcels;
  }

  #chunkFor(bytes: Buffer): Chunk {
    // One that is larger than a chunk is rare: it is kept as it is.
    if (bytes.length > CHUNK_BYTES) return { bytes, used: 0 };
    if (this.#current === undefined || this.#filled + bytes.length > CHUNK_BYTES) {
      const full = this.#current;
      this.#current = this.#spare.pop() ?? { bytes: Buffer.allocUnsafeSlow(CHUNK_BYTES), used: 0 };
      this.#filled = 0;
      if (full?.used === 0) this.#release(full);
    }
    return this.#current;
  }

  #forget({ chunk, length }: Entry): void {
    this.#bytes -= length;
    chunk.used -= 1;
    if (chunk.used > 0) return;
    if (chunk === this.#current) this.#filled = 0;
    else this.#release(chunk);
  }

  #release(chunk: Chunk): void {
    if (this.#spare.length < SPARE_CHUNKS && chunk.bytes.length === CHUNK_BYTES) this.#spare.push(chunk);
  }
}

/** Goes on nobody's account: its sink has counted it, and may be closed. */
function parcelOf({ chunk, start, length, frames, resent, refused, tries }: Entry): Parcel {
  const bytes = Buffer.from(chunk.bytes.subarray(start, start + length));
  return {
    bytes,
    ends: [length],
    next: 0,
    cancelled: false,
    done: () => {},
    resent: () => resent?.(frames),
    refused: () => refused?.(frames),
    tries,
  };
}
