import type { HealthCheck } from "@berth/mesos/task-info";
import type { Judgement } from "./outcome.ts";

/** What a health check's result means for its task. */
export interface Consequence {
  /** To be reported: the first success, a success after failures, and every failure outside grace. */
  report?: { healthy: boolean; message?: string };
  /** The threshold is reached. */
  kill?: string;
}

export interface HealthHistory {
  /** When checking began, milliseconds since the epoch. */
  since: number;
  /** Whether it was healthy, or was reported as unhealthy, before this supervisor: the grace is over then. */
  healthyBefore: boolean | undefined;
}

/**
 * Counts a task's health check results as Mesos's HealthChecker does: failures within the grace period do not count until the
 * first success, consecutive ones do afterwards, and the kill is asked for from the threshold on.
 */
export class HealthCounter {
  readonly #check: HealthCheck;
  readonly #since: number;
  #settled: boolean;
  #succeeded: boolean;
  #failures = 0;

  constructor(check: HealthCheck, history: HealthHistory) {
    this.#check = check;
    this.#since = history.since;
    this.#settled = history.healthyBefore !== undefined;
    this.#succeeded = history.healthyBefore === true;
  }

  count(judgement: Judgement, now: number): Consequence {
    if (judgement.verdict === "unknown") return {};
    if (judgement.verdict === "healthy") return this.#success();
    if (!this.#settled && now - this.#since <= this.#check.grace_period_seconds * 1000) return {};
    this.#failures += 1;
    const threshold = this.#check.consecutive_failures;
    const times = `${this.#failures} of ${Math.max(1, threshold)} times in a row`;
    const message = `the ${this.#check.type} health check failed ${times}: ${judgement.why}`;
    return { report: { healthy: false, message }, ...(this.#failures >= threshold ? { kill: message } : {}) };
  }

  #success(): Consequence {
    const news = !this.#succeeded || this.#failures > 0;
    this.#settled = true;
    this.#succeeded = true;
    this.#failures = 0;
    return news ? { report: { healthy: true } } : {};
  }
}
