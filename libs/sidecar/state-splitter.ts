const QUOTE = 34;
const BACKSLASH = 92;
const OPEN = 123;
const CLOSE = 125;

/**
 * Finds the ends of the JSON objects that Sidecar's watch stream strings together without a separator, whatever the chunks are.
 * Counts braces outside of strings; what lies inside is left to JSON.parse.
 */
export class StateSplitter {
  readonly #limit: number;
  #chunks: Buffer[] = [];
  #length = 0;
  #depth = 0;
  #inString = false;
  #escaped = false;

  constructor(limit = 64 * 1024 * 1024) {
    this.#limit = limit;
  }

  /** The objects that this chunk completes. Throws when one grows over the limit. */
  push(chunk: Buffer): Buffer[] {
    const values: Buffer[] = [];
    let start = 0;
    let at = 0;
    while (at < chunk.length) {
      if (this.#inString) {
        at = this.#skipString(chunk, at);
        continue;
      }
      const byte = chunk[at++];
      if (byte === QUOTE) this.#inString = true;
      else if (byte === OPEN) this.#depth += 1;
      else if (byte === CLOSE && --this.#depth === 0) {
        values.push(Buffer.concat([...this.#chunks, chunk.subarray(start, at)]));
        this.#chunks = [];
        this.#length = 0;
        start = at;
      }
    }
    if (start < chunk.length) {
      this.#chunks.push(chunk.subarray(start));
      this.#length += chunk.length - start;
      if (this.#length > this.#limit) throw new Error(`a state in Sidecar's watch stream is over ${this.#limit} bytes`);
    }
    return values;
  }

  #skipString(chunk: Buffer, from: number): number {
    let at = from;
    while (at < chunk.length) {
      const byte = chunk[at++];
      if (this.#escaped) this.#escaped = false;
      else if (byte === BACKSLASH) this.#escaped = true;
      else if (byte === QUOTE) {
        this.#inString = false;
        return at;
      }
    }
    return at;
  }
}
