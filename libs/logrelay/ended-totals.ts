import type { LogTotals, SinkConfig, TaskLogStatistics } from "./types.ts";

/** Counts that outlive their tasks: what only grows is only told as such when it does not shrink with a task's end. */
export class EndedTotals {
  readonly #ended: LogTotals = { lines: 0, bytes: 0, cut: 0, gaps: 0, sinks: {} };

  add(statistics: TaskLogStatistics): void {
    addTo(this.#ended, statistics);
  }

  /** Lines of a task that was over when they were delivered, or lost. */
  addLate(type: SinkConfig["type"], sent: number, lost: number, reason: string): void {
    addSink(this.#ended, type, { sent, resent: 0, dropped: lost === 0 ? {} : { [reason]: lost } });
  }

  /** Those of the tasks that are over and of these. */
  with(running: readonly TaskLogStatistics[]): LogTotals {
    const totals = structuredClone(this.#ended);
    for (const statistics of running) addTo(totals, statistics);
    return totals;
  }
}

function addTo(totals: LogTotals, { lines, bytes, cut, gaps, sinks }: TaskLogStatistics): void {
  totals.lines += lines;
  totals.bytes += bytes;
  totals.cut += cut;
  totals.gaps += gaps;
  for (const { type, sent, resent = 0, dropped } of sinks) addSink(totals, type, { sent, resent, dropped });
}

type SinkTotals = NonNullable<LogTotals["sinks"][SinkConfig["type"]]>;

function addSink({ sinks }: LogTotals, type: SinkConfig["type"], { sent, resent, dropped }: SinkTotals): void {
  sinks[type] ??= { sent: 0, resent: 0, dropped: {} };
  const sum = sinks[type];
  sum.sent += sent;
  sum.resent += resent;
  for (const [reason, count] of Object.entries(dropped)) sum.dropped[reason] = (sum.dropped[reason] ?? 0) + count;
}
