import type { Line } from "./line.ts";
import type { LogPosition } from "./types.ts";

/** A source as the pipeline sees it: read what is there, else wait for more. */
export interface Follower {
  open(): void | Promise<void>;
  /** Emits one batch; false when nothing is there. Lines are valid until the next read. */
  read(emit: (line: Line) => void): boolean;
  /** Resolves when there may be something to read, or after a while. */
  wait(): Promise<void>;
  wake(): void;
  /** The container is gone: makes the rest readable, or some of it while the source is `incomplete`: then it is called again. */
  finish(signal: AbortSignal): Promise<void>;
  /** Emits unfinished lines. */
  flush(emit: (line: Line) => void): void;
  position(): LogPosition | undefined;
  lag(): number | undefined;
  /** True while more is on its way of a source that has an end without being followed. */
  readonly incomplete?: boolean;
  readonly malformed: number;
  readonly reopened: number;
  close(): void;
}

/** Makes all that is left of a source readable and has it read, until the signal aborts. Rejects with why it cannot be had. */
export async function readRest(source: Follower, signal: AbortSignal, read: () => Promise<void>): Promise<void> {
  do {
    await source.finish(signal);
    await read();
  } while (source.incomplete === true && !signal.aborted);
}
