import { type Decoder, Joiner } from "./decoder.ts";
import type { Line } from "./line.ts";
import type { StreamName } from "./types.ts";

const NEWLINE = 10;
const QUOTE = 34;
const BACKSLASH = 92;
const LOWER_N = 110;
/** `{"log":"` */
const HEAD = 8;

/**
 * Docker's json-file format, one record per line: `{"log":"text\n","stream":"stdout","time":"…Z"}`. The usual record is read by
 * position: no JSON.parse, no copy, and its text stays escaped. Anything else (with attrs, torn by a crash) is parsed.
 */
export class JsonFileDecoder implements Decoder {
  readonly #joiner: Joiner;
  malformed = 0;

  constructor(maxLineBytes: number) {
    // Escaped text is up to six times as long.
    this.#joiner = new Joiner(maxLineBytes * 6);
  }

  decode(bytes: Buffer, offset: number, emit: (line: Line) => void): number {
    let start = 0;
    for (;;) {
      const end = bytes.indexOf(NEWLINE, start);
      if (end < 0) return start;
      if (!this.#fast(bytes, start, end, offset + start, emit)) this.#parse(bytes, start, end, offset + start, emit);
      start = end + 1;
    }
  }

  flush(emit: (line: Line) => void): void {
    this.#joiner.flush(emit);
  }

  pending(stream: StreamName): number | undefined {
    return this.#joiner.pending(stream);
  }

  lastTime(bytes: Buffer): string | undefined {
    return /"time":"([^"]{20,35})"\}\n$/.exec(bytes.toString("latin1", Math.max(0, bytes.length - 64)))?.[1];
  }

  lastEnd(bytes: Buffer): number {
    return bytes.lastIndexOf(NEWLINE) + 1;
  }

  #fast(bytes: Buffer, start: number, end: number, offset: number, emit: (line: Line) => void): boolean {
    const text = start + HEAD;
    if (bytes[start + 2] !== 108 || bytes[start + 6] !== 58 || bytes[start + 7] !== QUOTE || bytes[end - 1] !== 125) return false;
    let quote = bytes.indexOf(QUOTE, text);
    let kind: Line["kind"] = "plain";
    let last = true;
    let textEnd: number;
    if (bytes[quote - 1] === LOWER_N && bytes.indexOf(BACKSLASH, text) === quote - 2) {
      textEnd = quote - 2;
    } else {
      let escaped = -1;
      quote = text;
      while (quote < end && bytes[quote] !== QUOTE) {
        if (bytes[quote] !== BACKSLASH) quote += 1;
        else {
          if (escaped >= 0) kind = "escaped";
          escaped = quote;
          quote += 2;
        }
      }
      last = escaped >= 0 && escaped === quote - 2 && bytes[quote - 1] === LOWER_N;
      if (escaped >= 0 && !last) kind = "escaped";
      textEnd = last ? escaped : quote;
    }
    // `","stream":"std…","time":"…"}` must follow at once, else it is no usual record.
    if (bytes[quote + 1] !== 44 || bytes[quote + 3] !== 115 || bytes[quote + 18] !== QUOTE || bytes[quote + 21] !== 116) return false;
    if (bytes[quote + 27] !== QUOTE || end - 2 - (quote + 28) < 20 || end - 2 - (quote + 28) > 35) return false;
    const stream = bytes[quote + 15] === 101 ? "stderr" : "stdout";
    const time = bytes.toString("latin1", quote + 28, end - 2);
    this.#joiner.take({ buffer: bytes, start: text, end: textEnd, kind, stream, time, offset }, last, emit);
    return true;
  }

  #parse(bytes: Buffer, start: number, end: number, offset: number, emit: (line: Line) => void): void {
    const record = parseRecord(bytes.toString("utf8", start, end));
    if (record === undefined) {
      if (end > start) this.malformed += 1;
      return;
    }
    const last = record.log.endsWith("\n");
    const buffer = Buffer.from(last ? record.log.slice(0, -1) : record.log, "utf8");
    const stream = record.stream === "stderr" ? "stderr" : "stdout";
    // A joined line has one kind, and pieces read by position may be escaped.
    const escaped = this.#joiner.pending(stream) !== undefined || !last;
    const text = escaped ? Buffer.from(JSON.stringify(buffer.toString("utf8")).slice(1, -1)) : buffer;
    this.#joiner.take(
      { buffer: text, start: 0, end: text.length, kind: escaped ? "escaped" : "raw", stream, time: record.time, offset },
      last,
      emit,
    );
  }
}

function parseRecord(text: string): { log: string; stream: string; time: string } | undefined {
  // A dockerd that was killed while it wrote leaves a torn record; the next one follows on the same line.
  for (const from of [0, text.lastIndexOf('{"log":"')]) {
    if (from < 0) continue;
    try {
      const value = JSON.parse(text.slice(from)) as { log?: unknown; stream?: unknown; time?: unknown };
      if (typeof value.time !== "string") continue;
      // An empty log is left out of the record.
      return { log: typeof value.log === "string" ? value.log : "", stream: String(value.stream), time: value.time };
    } catch {
      // Torn: try from the last record's beginning.
    }
  }
  return undefined;
}
