import type { Follower } from "./follower.ts";
import { type Line, nowTime } from "./line.ts";
import { PlainDecoder } from "./text-decoder.ts";
import type { StreamName } from "./types.ts";

/** Bytes that wait for slow sinks; more is a gap, because whoever pushes must not wait. */
const MAX_WAITING = 8 * 1024 * 1024;

/** Output that is handed in: of a command task, by its worker. */
export class PushedSource implements Follower {
  readonly #decoders: Record<StreamName, PlainDecoder>;
  readonly #onGap: (reason: string) => void;
  #waiting: Array<{ stream: StreamName; bytes: Buffer; time: string }> = [];
  #bytes = 0;
  #wake: (() => void) | undefined;
  readonly malformed = 0;
  readonly reopened = 0;

  constructor(maxLineBytes: number, onGap: (reason: string) => void) {
    this.#decoders = { stdout: new PlainDecoder("stdout", maxLineBytes), stderr: new PlainDecoder("stderr", maxLineBytes) };
    this.#onGap = onGap;
  }

  push(stream: StreamName, bytes: Uint8Array): void {
    if (this.#bytes + bytes.length > MAX_WAITING) return this.#onGap("output came faster than it could be relayed");
    this.#waiting.push({ stream, bytes: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), time: nowTime() });
    this.#bytes += bytes.length;
    this.wake();
  }

  open(): void {}

  read(emit: (line: Line) => void): boolean {
    const next = this.#waiting.shift();
    if (next === undefined) return false;
    this.#bytes -= next.bytes.length;
    this.#decoders[next.stream].decode(next.bytes, 0, (line) => emit({ ...line, time: next.time }));
    return true;
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

  position(): undefined {
    return undefined;
  }

  lag(): number {
    return this.#bytes;
  }

  close(): void {
    this.wake();
  }
}
