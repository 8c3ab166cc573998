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
  /** The container is gone: makes the rest readable. `read` returns false once all of it was read. */
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
