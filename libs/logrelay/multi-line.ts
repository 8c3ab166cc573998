import { setFlagsFromString } from "node:v8";
import { type Line, rawBytes } from "./line.ts";
import type { FollowOptions, StreamName } from "./types.ts";

const LINE_FEED = Buffer.from("\n");
/** More of a line is not matched: a pattern that looks at each place again and again would take long for all tasks. */
const MATCHED_BYTES = 8 * 1024;
/** An event that is continued again and again is complete after so many times the longest wait. */
const MOST_WAITS = 10;

interface Held<Place> {
  line: Line;
  place: Place;
  parts: Buffer[];
  bytes: number;
  since: number;
  continuedAt: number;
}

/**
 * Joins lines that do not begin an event to the event before (stack traces), per stream. What it holds is copied, and bounded by
 * `maxBytes` of each stream: a longer event goes on as another one. A `Place` is where the caller would have to read from to see an event again.
 */
export class MultiLine<Place> {
  readonly #start: RegExp;
  readonly #maxLines: number;
  readonly #maxWaitMs: number;
  readonly #maxBytes: number;
  /** In the order in which they began. */
  readonly #held = new Map<StreamName, Held<Place>>();

  /** Throws where the pattern is no RegExp. */
  constructor({ start, maxLines = 500, maxWaitMs = 500 }: NonNullable<FollowOptions["multiLine"]>, maxBytes: number) {
    // One that would try exponentially many ways is matched in linear time instead, where it has no look-around nor back-reference.
    setFlagsFromString("--enable-experimental-regexp-engine-on-excessive-backtracks");
    this.#start = new RegExp(start);
    this.#maxLines = maxLines;
    this.#maxWaitMs = maxWaitMs;
    this.#maxBytes = maxBytes;
  }

  /** Where the oldest event that is held began; undefined while none is. */
  get oldest(): { place: Place } | undefined {
    return this.#held.values().next().value;
  }

  take(line: Line, place: Place, emit: (line: Line) => void): void {
    const held = this.#held.get(line.stream);
    const bytes = Buffer.from(rawBytes(line));
    const begins = this.#start.test(bytes.toString("utf8", 0, MATCHED_BYTES));
    const now = performance.now();
    if (held !== undefined && !begins && held.parts.length < this.#maxLines && held.bytes + 1 + bytes.length <= this.#maxBytes) {
      held.parts.push(bytes);
      held.bytes += 1 + bytes.length;
      held.continuedAt = now;
      return;
    }
    this.flush(emit, line.stream);
    this.#held.set(line.stream, { line, place, parts: [bytes], bytes: bytes.length, since: now, continuedAt: now });
  }

  /** Emits events that have waited long enough. */
  expire(emit: (line: Line) => void): void {
    const now = performance.now();
    for (const [stream, { since, continuedAt }] of this.#held) {
      if (now - continuedAt >= this.#maxWaitMs || now - since >= MOST_WAITS * this.#maxWaitMs) this.flush(emit, stream);
    }
  }

  flush(emit: (line: Line) => void, only?: StreamName): void {
    for (const [stream, { line, parts }] of this.#held) {
      if (only !== undefined && stream !== only) continue;
      this.#held.delete(stream);
      const buffer = Buffer.concat(parts.flatMap((part, index) => (index === 0 ? [part] : [LINE_FEED, part])));
      emit({ ...line, buffer, start: 0, end: buffer.length, kind: "raw" });
    }
  }
}
