import { type Decoder, Joiner } from "./decoder.ts";
import type { Line } from "./line.ts";
import type { StreamName } from "./types.ts";

const FRAME_BYTES = 4;
const MAX_ENTRY = 4 * 1024 * 1024;

/**
 * Docker's `local` driver: each entry is its length (u32, big endian), a protobuf LogEntry (source = 1, time_nano = 2, line = 3,
 * partial = 4, partial_log_metadata = 5 with last = 1) and the length again. Lines are the bytes that the container wrote.
 */
export class LocalDecoder implements Decoder {
  readonly #joiner: Joiner;
  malformed = 0;

  constructor(maxLineBytes: number) {
    this.#joiner = new Joiner(maxLineBytes * 2);
  }

  decode(bytes: Buffer, offset: number, emit: (line: Line) => void): number {
    let at = 0;
    while (bytes.length - at >= FRAME_BYTES) {
      const length = bytes.readUInt32BE(at);
      if (length > MAX_ENTRY) throw new Error(`an entry of ${length} bytes: the file is not in the format of Docker's local driver`);
      const end = at + FRAME_BYTES + length;
      if (end + FRAME_BYTES > bytes.length) break;
      const entry = readEntry(bytes, at + FRAME_BYTES, end);
      const { start, stop, stream, nanoseconds } = entry;
      const line: Line = { buffer: bytes, start, end: stop, kind: "raw", stream, time: rfc3339(nanoseconds), offset: offset + at };
      this.#joiner.take(line, !entry.partial || entry.last, emit);
      at = end + FRAME_BYTES;
    }
    return at;
  }

  flush(emit: (line: Line) => void): void {
    this.#joiner.flush(emit);
  }

  pending(stream: StreamName): number | undefined {
    return this.#joiner.pending(stream);
  }

  lastTime(bytes: Buffer): string | undefined {
    if (bytes.length < 2 * FRAME_BYTES) return undefined;
    const length = bytes.readUInt32BE(bytes.length - FRAME_BYTES);
    const start = bytes.length - FRAME_BYTES - length;
    return start < FRAME_BYTES ? undefined : rfc3339(readEntry(bytes, start, start + length).nanoseconds);
  }
}

interface Entry {
  stream: StreamName;
  nanoseconds: bigint;
  start: number;
  stop: number;
  partial: boolean;
  last: boolean;
}

function readEntry(bytes: Buffer, from: number, end: number): Entry {
  const entry: Entry = { stream: "stdout", nanoseconds: 0n, start: from, stop: from, partial: false, last: false };
  let at = from;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; at < end; shift += 7n) {
      const byte = bytes[at++] as number;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    return value;
  };
  while (at < end) {
    const tag = Number(varint());
    if ((tag & 7) === 0) {
      const value = varint();
      if (tag >> 3 === 2) entry.nanoseconds = value;
      if (tag >> 3 === 4) entry.partial = value !== 0n;
      continue;
    }
    if ((tag & 7) !== 2) break;
    const length = Number(varint());
    if (tag >> 3 === 1) entry.stream = bytes.toString("latin1", at, at + length) === "stderr" ? "stderr" : "stdout";
    if (tag >> 3 === 3) {
      entry.start = at;
      entry.stop = at + length;
    }
    if (tag >> 3 === 5) entry.last = length >= 2 && bytes[at] === 8 && bytes[at + 1] === 1;
    at += length;
  }
  return entry;
}

/** Nanoseconds since the epoch as Docker writes a time. */
export function rfc3339(nanoseconds: bigint): string {
  const seconds = new Date(Number(nanoseconds / 1_000_000n)).toISOString().slice(0, 19);
  return `${seconds}.${String(nanoseconds % 1_000_000_000n).padStart(9, "0")}Z`;
}
