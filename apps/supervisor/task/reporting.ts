import { isTerminal } from "@berth/mesos";
import type { TaskInfo } from "@berth/mesos/task-info";
import type { RequestedUpdate, TaskRecord } from "@berth/protocol";
import type { Exit, Observed } from "@berth/runtime";
import type { Outcome } from "./outcome.ts";

/** A terminal message is shown in lists; the sandbox has the rest. */
const LAST_LINES_IN_MESSAGE = 5;
/** Characters. */
const MAX_LINE_IN_MESSAGE = 512;

type HealthReport = Pick<RequestedUpdate, "message" | "reason" | "checkStatus">;

/**
 * What the agent was told of a task, and what it is to be told next. Mesos wants every update whole: each carries the health and
 * the check status that were reported last.
 */
export class Reporting {
  #lastStatus: TaskRecord["lastStatus"];
  #healthy: boolean | undefined;
  #checkStatus: RequestedUpdate["checkStatus"];
  #pending: RequestedUpdate | undefined;
  /** The last update of health or checks, until the worker is known to have it. */
  #lastReport: RequestedUpdate | undefined;

  constructor(record: TaskRecord) {
    this.#lastStatus = record.lastStatus;
    this.#healthy = record.lastStatus?.healthy;
  }

  get lastStatus(): TaskRecord["lastStatus"] {
    return this.#lastStatus;
  }

  get healthy(): boolean | undefined {
    return this.#healthy;
  }

  get pending(): RequestedUpdate | undefined {
    return this.#pending;
  }

  get ended(): boolean {
    return this.#lastStatus !== undefined && isTerminal(this.#lastStatus.state);
  }

  /** The worker is back: what it says counts, also where an update of ours never reached it. It drops one that it has already. */
  workerReturned(record: TaskRecord): void {
    this.#lastStatus = record.lastStatus;
    this.#pending ??= this.#lastReport;
  }

  health(healthy: boolean, report: HealthReport | undefined): void {
    this.#healthy = healthy;
    if (report === undefined) return;
    this.#checkStatus = report.checkStatus ?? this.#checkStatus;
    this.#pending = { state: "TASK_RUNNING", healthy, ...report };
  }

  check(report: HealthReport): void {
    this.#checkStatus = report.checkStatus ?? this.#checkStatus;
    this.#pending = { state: "TASK_RUNNING", ...report };
  }

  /** The update that health or checks want sent; it counts as sent from now on. */
  takePending(): RequestedUpdate | undefined {
    const report = this.#pending;
    this.#pending = undefined;
    this.#lastReport = report;
    return report;
  }

  /** Makes an update whole and notes that it was sent at `now`. */
  complete(
    update: RequestedUpdate,
    { task, observed, now }: { task: TaskInfo | undefined; observed: Observed | undefined; now: number },
  ): RequestedUpdate {
    const full: RequestedUpdate = { ...update };
    const checkStatus = full.checkStatus ?? this.#checkStatus ?? emptyCheckStatus(task);
    if (checkStatus !== undefined) full.checkStatus = checkStatus;
    if (full.healthy === undefined && this.#healthy !== undefined) full.healthy = this.#healthy;
    if (observed?.state === "running" && observed.addresses.length > 0) {
      full.containerStatus = {
        network_infos: observed.addresses.map(({ network, protocol, address }) => ({
          name: network,
          ip_addresses: [{ protocol, ip_address: address }],
        })),
      };
    }
    this.#lastStatus = { state: full.state, at: now, ...(full.message === undefined ? {} : { message: full.message }) };
    return full;
  }
}

/** "There is a check, it has no result yet", as Mesos has it. */
function emptyCheckStatus(task: TaskInfo | undefined): RequestedUpdate["checkStatus"] {
  if (task?.check === undefined) return undefined;
  return { type: task.check.type, [task.check.type.toLowerCase()]: {} };
}

/** The terminal update of an outcome, with the last lines of a task that failed. */
export function terminalUpdate(
  outcome: Outcome,
  exit: Exit | undefined,
  lastLines: readonly string[],
  mask: (text: string) => string,
): RequestedUpdate {
  const lines = outcome.state === "TASK_FAILED" ? lastLines.slice(-LAST_LINES_IN_MESSAGE) : [];
  const message = mask(outcome.message);
  return {
    state: outcome.state,
    message: lines.length === 0 ? message : `${message}; last output:\n${shortened(mask(lines.join("\n")))}`,
    ...(outcome.reason === undefined ? {} : { reason: outcome.reason }),
    ...(outcome.healthy === undefined ? {} : { healthy: outcome.healthy }),
    ...(exit === undefined ? {} : { labels: [{ key: "berth.exit-code", value: String(exit.exitCode) }] }),
  };
}

/** Cuts each line after its secrets were hidden: the first half of one would not be found. */
function shortened(text: string): string {
  return text
    .split("\n")
    .map((line) => (line.length > MAX_LINE_IN_MESSAGE ? `${line.slice(0, MAX_LINE_IN_MESSAGE).toWellFormed()}…` : line))
    .join("\n");
}
