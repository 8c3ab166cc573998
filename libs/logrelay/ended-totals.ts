import type { LogTotals, TaskLogStatistics } from "./types.ts";

/** Counts that outlive their tasks: what only grows is only told as such when it does not shrink with a task's end. */
export class EndedTotals {
  readonly #ended: LogTotals = { lines: 0, bytes: 0, cut: 0, gaps: 0, sinks: {} };

  add(statistics: TaskLogStatistics): void {
    addTo(this.#ended, statistics);
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
  for (const { type, sent, resent = 0, dropped } of sinks) {
    totals.sinks[type] ??= { sent: 0, resent: 0, dropped: {} };
    const sum = totals.sinks[type];
    sum.sent += sent;
    sum.resent += resent;
    for (const [reason, count] of Object.entries(dropped)) sum.dropped[reason] = (sum.dropped[reason] ?? 0) + count;
  }
}
