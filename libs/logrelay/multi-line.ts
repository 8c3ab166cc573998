import { type Line, rawBytes } from "./line.ts";
import type { FollowOptions, StreamName } from "./types.ts";

const LINE_FEED = Buffer.from("\n");

/** Joins lines that do not begin an event to the event before (stack traces), per stream. What it holds is copied. */
export class MultiLine {
  readonly #start: RegExp;
  readonly #maxLines: number;
  readonly #maxWaitMs: number;
  readonly #held: Record<StreamName, { line: Line; parts: Buffer[]; since: number } | undefined> = { stdout: undefined, stderr: undefined };

  /** Throws where the pattern is no RegExp. */
  constructor({ start, maxLines = 500, maxWaitMs = 500 }: NonNullable<FollowOptions["multiLine"]>) {
    this.#start = new RegExp(start);
    this.#maxLines = maxLines;
    this.#maxWaitMs = maxWaitMs;
  }

  get holding(): boolean {
    return this.#held.stdout !== undefined || this.#held.stderr !== undefined;
  }

  take(line: Line, emit: (line: Line) => void): void {
    const held = this.#held[line.stream];
    const bytes = Buffer.from(rawBytes(line));
    const begins = this.#start.test(bytes.toString("utf8"));
    if (held !== undefined && !begins && held.parts.length < this.#maxLines) {
      held.parts.push(bytes);
      return;
    }
    this.flush(emit, line.stream);
    this.#held[line.stream] = { line, parts: [bytes], since: performance.now() };
  }

  /** Emits events that have waited long enough. */
  expire(emit: (line: Line) => void): void {
    for (const stream of ["stdout", "stderr"] as const) {
      const held = this.#held[stream];
      if (held !== undefined && performance.now() - held.since >= this.#maxWaitMs) this.flush(emit, stream);
    }
  }

  flush(emit: (line: Line) => void, only?: StreamName): void {
    for (const stream of only === undefined ? (["stdout", "stderr"] as const) : [only]) {
      const held = this.#held[stream];
      this.#held[stream] = undefined;
      if (held === undefined) continue;
      const buffer = Buffer.concat(held.parts.flatMap((part, index) => (index === 0 ? [part] : [LINE_FEED, part])));
      emit({ ...held.line, buffer, start: 0, end: buffer.length, kind: "raw" });
    }
  }
}
