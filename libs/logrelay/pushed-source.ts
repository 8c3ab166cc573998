import type { Follower } from "./follower.ts";
import { type Line, nowTime } from "./line.ts";
import { PlainDecoder } from "./text-decoder.ts";
import type { LogPosition, StreamName } from "./types.ts";

/** Bytes that wait for slow sinks; more is a gap, because whoever pushes must not wait. */
const MAX_WAITING = 8 * 1024 * 1024;
/** How much is relayed at a time. */
const BATCH_BYTES = 64 * 1024;

/** A line that is longer does not hold the position back: a worker sends no more than 256 KiB ahead of it, and so would never send the rest. */
const MAX_HELD = 128 * 1024;

interface Piece {
  stream: StreamName;
  bytes: Buffer;
  offset: number;
  time: string;
  /** What came before it is lost: it continues no line. */
  afterGap: boolean;
}

/**
 * Output that is handed in: of a command task, by its worker. A worker that counts the bytes sends what was not confirmed once more
 * after an interruption; what was relayed is told by the position and passed over.
 */
export class PushedSource implements Follower {
  readonly #decoders: Record<StreamName, PlainDecoder>;
  readonly #onGap: (reason: string) => void;
  #counted = false;
  /** Bytes of each stream that came; undefined before the first of a stream of which nothing is known. */
  #came: Partial<Record<StreamName, number>> = {};
  /** Bytes of each stream that were read. */
  #gone: Record<StreamName, number> = { stdout: 0, stderr: 0 };
  /** Where the next piece of each stream is to go on, if nothing is missing. */
  readonly #queued: Record<StreamName, number> = { stdout: 0, stderr: 0 };
  #waiting: Piece[] = [];
  #bytes = 0;
  #wake: (() => void) | undefined;
  readonly malformed = 0;
  readonly reopened = 0;

  constructor(maxLineBytes: number, onGap: (reason: string) => void, position?: Extract<LogPosition, { kind: "pushed" }>) {
    this.#decoders = { stdout: new PlainDecoder("stdout", maxLineBytes), stderr: new PlainDecoder("stderr", maxLineBytes) };
    this.#onGap = onGap;
    if (position === undefined) return;
    const { stdout, stderr } = position;
    this.#came = { stdout, stderr };
    this.#gone = { stdout, stderr };
    this.#queued = { stdout, stderr };
  }

  push(stream: StreamName, bytes: Uint8Array, offset?: number): void {
    this.#counted ||= offset !== undefined;
    const came = this.#came[stream] ?? offset ?? 0;
    const at = offset ?? came;
    const end = at + bytes.length;
    if (end <= came) return;
    if (at > came)
      this.#onGap(`${at - came} bytes of ${stream} are lost: its worker could not keep all of it while the supervisor was away`);
    this.#came[stream] = end;
    if (this.#bytes + bytes.length > MAX_WAITING) return this.#onGap("output came faster than it could be relayed");
    const from = Math.max(at, came);
    const piece = Buffer.from(bytes.buffer, bytes.byteOffset + from - at, end - from);
    this.#waiting.push({ stream, bytes: piece, offset: from, time: nowTime(), afterGap: from !== this.#queued[stream] });
    this.#queued[stream] = end;
    this.#bytes += piece.length;
    this.wake();
  }

  open(): void {}

  /** As many pieces as make a batch: small ones would each wait to be confirmed. */
  read(emit: (line: Line) => void): boolean {
    let bytes = 0;
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (bytes > 0 && bytes + next.bytes.length > BATCH_BYTES) break;
      this.#waiting.shift();
      bytes += next.bytes.length;
      this.#decode(next, emit);
    }
    this.#bytes -= bytes;
    return bytes > 0;
  }

  #decode({ stream, bytes, offset, time, afterGap }: Piece, emit: (line: Line) => void): void {
    const decoder = this.#decoders[stream];
    const timed = (line: Line): void => emit({ ...line, time });
    if (afterGap) decoder.flush(timed);
    decoder.decode(bytes, offset, timed);
    this.#gone[stream] = offset + bytes.length;
  }

  wait(): Promise<void> {
    if (this.#waiting.length > 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  wake(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  async finish(): Promise<void> {}

  flush(emit: (line: Line) => void): void {
    const time = nowTime();
    for (const decoder of Object.values(this.#decoders)) decoder.flush((line) => emit({ ...line, time }));
  }

  position(): LogPosition | undefined {
    return this.#counted ? { kind: "pushed", stdout: this.#place("stdout"), stderr: this.#place("stderr") } : undefined;
  }

  lag(): number {
    return this.#bytes;
  }

  close(): void {
    this.wake();
  }

  /** An unfinished line is to come again. */
  #place(stream: StreamName): number {
    const gone = this.#gone[stream];
    const pending = this.#decoders[stream].pending(stream);
    return pending === undefined || gone - pending > MAX_HELD ? gone : pending;
  }
}
