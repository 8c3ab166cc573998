import type { Line } from "./line.ts";
import type { StreamName } from "./types.ts";

/** Takes the records of a log file apart. Offsets are those of the file. */
export interface Decoder {
  /** Emits the lines that `bytes` completes; returns how many bytes were used (whole records only). */
  decode(bytes: Buffer, offset: number, emit: (line: Line) => void): number;
  /** Emits what is left of unfinished lines: the container is gone. */
  flush(emit: (line: Line) => void): void;
  /** Where a stream's unfinished line begins. */
  pending(stream: StreamName): number | undefined;
  /** The time of the last record that ends at the end of `bytes`; undefined where the format has none. */
  lastTime(bytes: Buffer): string | undefined;
  /** The end of the last whole record in bytes that begin anywhere; absent where that cannot be told of the format. */
  lastEnd?(bytes: Buffer): number;
  readonly malformed: number;
}

interface Unfinished {
  parts: Buffer[];
  length: number;
  escaped: boolean;
  raw: boolean;
  time: string;
  offset: number;
}

/** Joins the pieces of at most 16 KiB that Docker cuts long lines into, per stream. What is over the limit is not kept. */
export class Joiner {
  readonly #limit: number;
  readonly #unfinished: Record<StreamName, Unfinished | undefined> = { stdout: undefined, stderr: undefined };

  constructor(limit: number) {
    this.#limit = limit;
  }

  pending(stream: StreamName): number | undefined {
    return this.#unfinished[stream]?.offset;
  }

  /** A piece; `last` when the line ends with it. */
  take(piece: Line, last: boolean, emit: (line: Line) => void): void {
    const before = this.#unfinished[piece.stream];
    if (before === undefined && last) return emit(piece);
    const line = before ?? { parts: [], length: 0, escaped: false, raw: false, time: piece.time, offset: piece.offset };
    if (line.length < this.#limit) line.parts.push(Buffer.from(piece.buffer.subarray(piece.start, piece.end)));
    line.length += piece.end - piece.start;
    line.escaped ||= piece.kind === "escaped";
    line.raw ||= piece.kind === "raw";
    this.#unfinished[piece.stream] = last ? undefined : line;
    if (last) emit(join(line, piece.stream));
  }

  flush(emit: (line: Line) => void): void {
    for (const stream of ["stdout", "stderr"] as const) {
      const line = this.#unfinished[stream];
      this.#unfinished[stream] = undefined;
      if (line !== undefined) emit(join(line, stream));
    }
  }
}

function join(line: Unfinished, stream: StreamName): Line {
  const buffer = Buffer.concat(line.parts);
  const kind = line.escaped ? "escaped" : line.raw ? "raw" : "plain";
  return { buffer, start: 0, end: buffer.length, kind, stream, time: line.time, offset: line.offset };
}
