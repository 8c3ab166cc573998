/**
 * RecordIO framing: `<decimal byte length>\n<bytes>`, repeated with nothing in between. The Mesos v1 HTTP API frames its
 * event stream this way (stout/recordio.hpp), and Berth's own socket uses the same, so that there is one framing in the system.
 *
 * Host-independent: no Node import, so that the worker's core can use it on any engine.
 */

/** The largest record that either side accepts, in bytes: a TaskInfo with megabytes of `data` fits, a runaway peer does not. */
export const MAX_RECORD_BYTES = 16 * 1024 * 1024;

const NEWLINE = 10;
const DIGIT_ZERO = 48;

/** Thrown by {@link RecordDecoder.push}: the stream has lost its framing and must be closed. */
export class FramingError extends Error {
  override readonly name = "FramingError";
}

/** Frames one record. The length is counted in bytes, never in characters. */
export function encodeRecord(record: Uint8Array): Uint8Array {
  const header = `${record.length}\n`;
  const frame = new Uint8Array(header.length + record.length);
  for (let i = 0; i < header.length; i++) frame[i] = header.charCodeAt(i);
  frame.set(record, header.length);
  return frame;
}

/**
 * Incremental decoder. Bytes may be cut and joined anywhere; every complete record is handed to `onRecord` in order.
 *
 * INVARIANTS: a record's bytes are copied once, however many pieces it came in; at most `limit` bytes are held; after a
 * {@link FramingError} the decoder refuses all further input, because nothing after a bad length can be trusted.
 */
export class RecordDecoder {
  readonly #onRecord: (record: Uint8Array) => void;
  readonly #limit: number;
  #length = 0;
  #digits = 0;
  #record: Uint8Array | undefined;
  #filled = 0;
  #failed = false;

  constructor(onRecord: (record: Uint8Array) => void, limit: number = MAX_RECORD_BYTES) {
    this.#onRecord = onRecord;
    this.#limit = limit;
  }

  /** True when the stream may end here without a record being lost. */
  get atBoundary(): boolean {
    return this.#record === undefined && this.#digits === 0;
  }

  /** Takes the next bytes of the stream. Throws {@link FramingError} on a length that is no number or over the limit. */
  push(bytes: Uint8Array): void {
    if (this.#failed) throw new FramingError("the stream lost its framing earlier");
    let at = 0;
    while (at < bytes.length) {
      if (this.#record === undefined) {
        at = this.#readLength(bytes, at);
      } else {
        const take = Math.min(this.#record.length - this.#filled, bytes.length - at);
        this.#record.set(bytes.subarray(at, at + take), this.#filled);
        this.#filled += take;
        at += take;
      }
      if (this.#record !== undefined && this.#filled === this.#record.length) {
        const record = this.#record;
        this.#record = undefined;
        this.#filled = 0;
        this.#onRecord(record);
      }
    }
  }

  #readLength(bytes: Uint8Array, from: number): number {
    let at = from;
    for (; at < bytes.length; at++) {
      const byte = bytes[at] as number;
      if (byte === NEWLINE) {
        if (this.#digits === 0) this.#fail("a record length is empty");
        this.#record = new Uint8Array(this.#length);
        this.#length = 0;
        this.#digits = 0;
        return at + 1;
      }
      const digit = byte - DIGIT_ZERO;
      if (digit < 0 || digit > 9) this.#fail(`a record length holds the byte ${byte}, which is no digit`);
      this.#length = this.#length * 10 + digit;
      this.#digits += 1;
      if (this.#length > this.#limit || this.#digits > 20) this.#fail(`a record is longer than the limit of ${this.#limit} bytes`);
    }
    return at;
  }

  #fail(message: string): never {
    this.#failed = true;
    throw new FramingError(message);
  }
}
