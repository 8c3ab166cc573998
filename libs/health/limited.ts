import { TimedOut } from "./probe-error.ts";

const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Runs `work` with a signal that aborts with `outer`, and with {@link TimedOut} after `timeoutMs` (0: never). Everything that
 * waits within must heed the signal.
 */
export async function limited<T>(timeoutMs: number, outer: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  outer.throwIfAborted();
  const inner = new AbortController();
  const end = (): void => inner.abort(outer.reason);
  outer.addEventListener("abort", end, { once: true });
  const timer = timeoutMs > 0 ? setTimeout(() => inner.abort(new TimedOut()), Math.min(timeoutMs, MAX_TIMER_MS)) : undefined;
  try {
    return await work(inner.signal);
  } catch (error) {
    throw inner.signal.aborted ? inner.signal.reason : error;
  } finally {
    clearTimeout(timer);
    outer.removeEventListener("abort", end);
    // Whatever is still open within ends with its check.
    inner.abort(new Error("the check is over"));
  }
}
