import type { StreamName } from "./types.ts";

const CHUNK_BYTES = 256 * 1024;
/** The stream, and the length of the line. */
const HEAD = 5;

interface Chunk {
  bytes: Buffer;
  start: number;
  end: number;
}

/**
 * The last whole lines of both streams, up to so many bytes together. They lie packed one behind the other: a task that writes millions
 * of empty lines must not cost an object for each.
 */
export class LastOutput {
  readonly #most: number;
  readonly #chunks: Chunk[] = [];
  readonly #bytes = { stdout: 0, stderr: 0 };
  /** Some earlier output was left out. */
  truncated = false;

  constructor(mostBytes: number) {
    this.#most = mostBytes;
  }

  /** `line` is copied, with its line feed. Of one that alone is too long the end is kept. */
  add(stream: StreamName, line: Buffer): void {
    let kept = line;
    if (line.length > this.#most) {
      kept = line.subarray(line.length - this.#most);
      this.truncated = true;
    }
    while (this.#bytes.stdout + this.#bytes.stderr + kept.length > this.#most && this.#chunks.length > 0) this.#dropOldest();
    const chunk = this.#room(HEAD + kept.length);
    chunk.bytes[chunk.end] = stream === "stdout" ? 0 : 1;
    chunk.bytes.writeUInt32LE(kept.length, chunk.end + 1);
    kept.copy(chunk.bytes, chunk.end + HEAD);
    chunk.end += HEAD + kept.length;
    this.#bytes[stream] += kept.length;
  }

  /** All that is kept of a stream. */
  of(wanted: StreamName): Buffer {
    const all = Buffer.allocUnsafeSlow(this.#bytes[wanted]);
    let at = 0;
    for (const { bytes, start, end } of this.#chunks) {
      for (let from = start; from < end; ) {
        const { stream, next } = lineAt(bytes, from);
        if (stream === wanted) at += bytes.copy(all, at, from + HEAD, next);
        from = next;
      }
    }
    return all;
  }

  #room(length: number): Chunk {
    const last = this.#chunks.at(-1);
    if (last !== undefined && last.end + length <= last.bytes.length) return last;
    const chunk = { bytes: Buffer.allocUnsafeSlow(Math.max(CHUNK_BYTES, length)), start: 0, end: 0 };
    this.#chunks.push(chunk);
    return chunk;
  }

  #dropOldest(): void {
    const chunk = this.#chunks[0] as Chunk;
    const { stream, next } = lineAt(chunk.bytes, chunk.start);
    this.#bytes[stream] -= next - chunk.start - HEAD;
    this.truncated = true;
    chunk.start = next;
    if (chunk.start === chunk.end) this.#chunks.shift();
  }
}

function lineAt(bytes: Buffer, from: number): { stream: StreamName; next: number } {
  return { stream: bytes[from] === 0 ? "stdout" : "stderr", next: from + HEAD + bytes.readUInt32LE(from + 1) };
}
