import { type Decoder, Joiner } from "./decoder.ts";
import type { Line } from "./line.ts";
import type { StreamName } from "./types.ts";

/** A plain text file of one stream: the sandbox's stdout or stderr. Its lines have no time. */
export class PlainDecoder implements Decoder {
  readonly #stream: StreamName;
  readonly #joiner: Joiner;
  readonly malformed = 0;

  constructor(stream: StreamName, maxLineBytes: number) {
    this.#stream = stream;
    this.#joiner = new Joiner(maxLineBytes * 2);
  }

  decode(bytes: Buffer, offset: number, emit: (line: Line) => void): number {
    let start = 0;
    while (start < bytes.length) {
      const end = bytes.indexOf(10, start);
      const line: Line = {
        buffer: bytes,
        start,
        end: end < 0 ? bytes.length : end,
        kind: "raw",
        stream: this.#stream,
        time: "",
        offset: offset + start,
      };
      this.#joiner.take(line, end >= 0, emit);
      if (end < 0) break;
      start = end + 1;
    }
    return bytes.length;
  }

  flush(emit: (line: Line) => void): void {
    this.#joiner.flush(emit);
  }

  pending(stream: StreamName): number | undefined {
    return this.#joiner.pending(stream);
  }

  lastTime(): undefined {
    return undefined;
  }
}
