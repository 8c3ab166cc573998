import type { LogLane, LogTotals } from "@berth/logrelay";
import type { Metric, Sample } from "../admin/metrics.ts";
import { within } from "../task/within.ts";

/** A log thread that is busy for longer is left out of the answer. */
const ANSWER_MS = 2_000;

/** What the log thread counts, over all tasks. Empty while it does not answer. */
export async function logMetrics(lane: LogLane): Promise<Metric[]> {
  const counter = (name: string, help: string, samples: Sample[]): Metric => ({ name, help, type: "counter", samples });
  const restarts = counter("berth_log_thread_restarts_total", "How often the log thread was replaced; its counts begin anew then.", [
    { value: lane.restarts },
  ]);
  try {
    const { totals, tasks, leftBytes } = await within(ANSWER_MS, () => lane.stats());
    const { lines, bytes, cut, gaps } = totals;
    const queued = tasks.reduce((sum, { sinks }) => sum + sinks.reduce((bytes, { queuedBytes }) => bytes + queuedBytes, 0), leftBytes);
    return [
      restarts,
      counter("berth_log_lines_read_total", "Lines that tasks wrote and the relay read.", [{ value: lines }]),
      counter("berth_log_bytes_read_total", "Bytes of these lines.", [{ value: bytes }]),
      counter("berth_log_lines_cut_total", "Lines that were longer than the limit.", [{ value: cut }]),
      counter("berth_log_gaps_total", "Times that output was gone before it could be read.", [{ value: gaps }]),
      counter("berth_log_lines_sent_total", "Lines delivered, by kind of target.", bySink(totals, "sent")),
      counter(
        "berth_log_lines_resent_total",
        "Lines sent once more after a connection broke, by kind of target.",
        bySink(totals, "resent"),
      ),
      counter("berth_log_lines_dropped_total", "Lines not delivered, by kind of target and reason.", drops(totals)),
      { name: "berth_log_queued_bytes", help: "Bytes that wait for slow targets.", type: "gauge", samples: [{ value: queued }] },
    ];
  } catch {
    return [restarts];
  }
}

function bySink({ sinks }: LogTotals, what: "sent" | "resent"): Sample[] {
  return Object.entries(sinks).map(([target, counts]) => ({ labels: { target }, value: counts[what] }));
}

function drops({ sinks }: LogTotals): Sample[] {
  return Object.entries(sinks).flatMap(([target, { dropped }]) =>
    Object.entries(dropped).map(([reason, value]) => ({ labels: { target, reason }, value })),
  );
}
