import { setTimeout as sleep } from "node:timers/promises";

export interface WaitOptions {
  /** Milliseconds until the wait fails. Generous: it is only met by a test that fails. Default 20 s. */
  deadline?: number;
  /** Milliseconds between two looks. */
  interval?: number;
  /** What is awaited, for the error. */
  what?: string;
}

/**
 * Looks until `condition` gives something truthy and returns that. An error of the condition counts as "not yet" and is named
 * as the cause when the deadline passes.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  options: WaitOptions = {},
): Promise<Exclude<T, undefined | null | false | 0 | "">> {
  const { deadline = 20_000, interval = 20, what = "the condition" } = options;
  const end = performance.now() + deadline;
  let cause: unknown;
  for (;;) {
    try {
      const value = await condition();
      if (value) return value as Exclude<T, undefined | null | false | 0 | "">;
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    if (performance.now() > end) {
      throw new Error(`waited ${deadline} ms in vain for ${what}${cause instanceof Error ? `: ${cause.message}` : ""}`, { cause });
    }
    await sleep(interval);
  }
}
