import type { Line } from "./line.ts";
import type { SinkConfig, SinkStatistics } from "./types.ts";

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
  /** Resolves when all that was written is delivered or dropped, or when waiting is no use. */
  drained(signal: AbortSignal): Promise<void>;
  /** Drops and counts what is left; with `leave` what is on its way may go on for a while, as far as there is room for it. */
  close(leave?: boolean): void;
  statistics(): SinkStatistics;
}

/** Counts of one sink, shared by all kinds. */
export class SinkCounters {
  readonly type: SinkConfig["type"];
  readonly name: string;
  sent = 0;
  readonly dropped: Record<string, number> = {};
  problem: string | undefined;

  constructor(type: SinkConfig["type"], name: string) {
    this.type = type;
    this.name = name;
  }

  drop(reason: string, lines = 1): void {
    if (lines > 0) this.dropped[reason] = (this.dropped[reason] ?? 0) + lines;
  }

  statistics(queuedBytes = 0): SinkStatistics {
    const { type, name, sent, dropped, problem } = this;
    return { type, name, sent, dropped: { ...dropped }, queuedBytes, ...(problem === undefined ? {} : { problem }) };
  }
}
