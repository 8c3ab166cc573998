import type { CheckInfo, HealthCheck } from "@berth/mesos/task-info";
import { checkStatus, sameStatus } from "./check-status.ts";
import { Gate } from "./gate.ts";
import { HealthCounter } from "./health-check.ts";
import { judge, type Outcome } from "./outcome.ts";
import { Prober } from "./prober.ts";
import { type Clock, type Rhythm, repeat } from "./schedule.ts";
import type { CheckedTask, HealthParts, HealthVerdicts, HealthWatch } from "./types.ts";

export interface HealthWatches {
  health: HealthWatch;
  check: HealthWatch;
  /** Ends the thread that makes the checks. */
  close(): Promise<void>;
}

/** High, because a check of a hung task keeps its place for as long as its timeout. */
const DEFAULT_CONCURRENCY = 256;

/**
 * The watches for `TaskInfo.health_check` (decides whether the task is healthy, and its end) and `TaskInfo.check` (only reported),
 * for all tasks of a host: they share one limit of checks under way.
 */
export function createHealthWatches(parts: HealthParts): HealthWatches {
  const clock: Clock = { now: parts.now, random: parts.random ?? Math.random };
  const gate = new Gate(parts.maxConcurrent ?? DEFAULT_CONCURRENCY);
  const prober = new Prober(parts);

  /** One check; never rejects. A task that ended meanwhile, or a failure of our own, is `unknown`. */
  async function perform(check: HealthCheck | CheckInfo, task: CheckedTask, signal: AbortSignal): Promise<Outcome> {
    try {
      const run = () => prober.run(check, task.observed, signal);
      // Without a time limit it could keep its place for ever.
      return check.timeout_seconds === 0 ? await run() : await gate.run(run, signal);
    } catch (error) {
      return { kind: "unknown", why: error instanceof Error ? error.message : String(error) };
    }
  }

  function logUnknown(task: CheckedTask, why: string): void {
    parts.log.warn({ taskId: task.identity.taskId, why }, "a check could not be made; it counts neither way and is tried again");
  }

  function watch(task: CheckedTask, check: HealthCheck | CheckInfo | undefined, take: (outcome: Outcome) => void): () => void {
    if (check === undefined) return () => {};
    const over = new AbortController();
    const once = async (signal: AbortSignal): Promise<void> => {
      const outcome = await perform(check, task, signal);
      if (signal.aborted) return;
      if (outcome.kind === "unknown") logUnknown(task, outcome.why);
      take(outcome);
    };
    repeat(rhythmOf(check, task, clock), clock, once, over.signal);
    return () => over.abort(new Error("the task is not checked any more"));
  }

  const health: HealthWatch = {
    name: "health_check",
    decidesHealth: (task) => task.health_check !== undefined,
    begin(task, verdicts) {
      const check = task.task.health_check;
      if (check === undefined) return () => {};
      const { healthyBefore } = task;
      const counter = new HealthCounter(check, { since: rhythmOf(check, task, clock).since, healthyBefore });
      const end = watch(task, check, (outcome) => {
        const consequence = counter.count(judge(outcome, check.http?.statuses), parts.now());
        if (consequence.report !== undefined) report(verdicts, consequence.report);
        if (consequence.kill !== undefined) {
          end();
          verdicts.stop("unhealthy", consequence.kill);
        }
      });
      return end;
    },
  };

  const check: HealthWatch = {
    name: "check",
    decidesHealth: () => false,
    begin(task, verdicts) {
      const info = task.task.check;
      if (info === undefined) return () => {};
      let last = checkStatus(info.type, { kind: "unknown", why: "" });
      return watch(task, info, (outcome) => {
        const status = checkStatus(info.type, outcome);
        if (outcome.kind === "unknown" || sameStatus(status, last)) return;
        last = status;
        verdicts.check({ reason: "REASON_TASK_CHECK_STATUS_UPDATED", checkStatus: status });
      });
    },
  };
  return { health, check, close: () => prober.close() };
}

function report(verdicts: HealthVerdicts, { healthy, message }: { healthy: boolean; message?: string }): void {
  verdicts.health(healthy, { reason: "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED", ...(message === undefined ? {} : { message }) });
}

/** Checking begins when the task has been started; a supervisor that comes back later must not grant delay and grace anew. */
function rhythmOf(check: HealthCheck | CheckInfo, task: CheckedTask, clock: Clock): Rhythm {
  const since = Math.min(clock.now(), task.observed.startedAt);
  return { since, delayMs: check.delay_seconds * 1000, intervalMs: check.interval_seconds * 1000 };
}
