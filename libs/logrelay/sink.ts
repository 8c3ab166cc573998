import type { Line } from "./line.ts";
import type { SinkStatistics } from "./types.ts";

/** Where lines go. Formats at once, so that nothing of a line is kept; delivers in its own time. */
export interface Sink {
  readonly name: string;
  /** Takes the lines of one batch; never throws, never waits. Batches are numbered upwards from 1. */
  write(lines: readonly Line[], batch: number): void;
  /** Every batch up to this one is delivered, or dropped and counted. Infinity for a sink that must not hold the position back. */
  confirmed(): number;
  /** Resolves when more may be confirmed, or after a moment. */
  progress(): Promise<void>;
  /** Resolves when there is room for another batch, or when the receiver is away and waiting is no use. */
  room(): Promise<void>;
  /** Resolves when all that was written is delivered or dropped. */
  drained(signal: AbortSignal): Promise<void>;
  /** Drops and counts what is left. */
  close(): void;
  statistics(): SinkStatistics;
}

/** Counts of one sink, shared by all kinds. */
export class SinkCounters {
  readonly name: string;
  sent = 0;
  readonly dropped: Record<string, number> = {};
  problem: string | undefined;

  constructor(name: string) {
    this.name = name;
  }

  drop(reason: string, lines = 1): void {
    if (lines > 0) this.dropped[reason] = (this.dropped[reason] ?? 0) + lines;
  }

  statistics(queuedBytes = 0): SinkStatistics {
    const { name, sent, dropped, problem } = this;
    return { name, sent, dropped: { ...dropped }, queuedBytes, ...(problem === undefined ? {} : { problem }) };
  }
}
