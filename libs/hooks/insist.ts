import { TaskFailure } from "@berth/mesos";
import { retry } from "@berth/retry";
import type { HookContext } from "./lifecycle.ts";

const REPEAT = { attempts: Number.POSITIVE_INFINITY, firstDelayMs: 200, maxDelayMs: 5000 };

/**
 * Repeats a call to `service` until it works, cannot work (a TaskFailure that is not recoverable), the stage is aborted, or
 * `limitMs` are over; then rejects with the last failure, which says more than a timeout.
 */
export async function insist<T>(
  service: string,
  context: HookContext,
  limitMs: number,
  call: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(limitMs)]);
  let last: unknown;
  try {
    return await retry(REPEAT, () => call(signal), {
      signal,
      recoverable: (error) => !TaskFailure.is(error) || error.recoverable,
      onFailure: ({ error, attempt }) => {
        last = error;
        context.log.debug({ service, attempt, err: error }, "a service did not take a call; trying again");
      },
    });
  } catch (error) {
    throw last !== undefined && signal.aborted ? last : error;
  }
}
