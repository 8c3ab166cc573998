import { setTimeout as sleep } from "node:timers/promises";

/** How a call is repeated. Waits grow from `firstDelayMs` by doubling up to `maxDelayMs`, each jittered to 50–100 %. */
export interface BackoffPolicy {
  /** Attempts in all, the first one included. Infinity repeats until the signal aborts. */
  attempts: number;
  firstDelayMs: number;
  maxDelayMs: number;
}

/** What {@link retry} tells before it waits, for a log line. */
export interface FailedAttempt {
  error: unknown;
  /** 1 for the first attempt. */
  attempt: number;
  delayMs: number;
}

export interface RetryOptions {
  signal?: AbortSignal;
  /** False ends the retries at once: the error would come again. Default: every error is worth another attempt. */
  recoverable?: (error: unknown) => boolean;
  onFailure?: (failed: FailedAttempt) => void;
  random?: () => number;
}

/** The wait before attempt `attempt + 1`, in milliseconds. */
export function backoffDelay(policy: BackoffPolicy, attempt: number, random: () => number = Math.random): number {
  const ceiling = Math.min(policy.maxDelayMs, policy.firstDelayMs * 2 ** Math.min(attempt - 1, 30));
  return ceiling * (0.5 + random() / 2);
}

/**
 * Repeats `call` by `policy` and returns its first result. Throws the last error when attempts are used up or the error is not
 * recoverable, and the signal's reason when it aborts, also in the middle of a wait.
 */
export async function retry<T>(policy: BackoffPolicy, call: (attempt: number) => Promise<T>, options: RetryOptions = {}): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    options.signal?.throwIfAborted();
    try {
      return await call(attempt);
    } catch (error) {
      if (options.signal?.aborted) throw options.signal.reason;
      if (attempt >= policy.attempts || options.recoverable?.(error) === false) throw error;
      const delayMs = backoffDelay(policy, attempt, options.random);
      options.onFailure?.({ error, attempt, delayMs });
      await pause(delayMs, options.signal);
    }
  }
}

/** Waits `ms` milliseconds; rejects with the signal's reason as soon as it aborts. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    throw signal?.aborted ? signal.reason : error;
  }
}
