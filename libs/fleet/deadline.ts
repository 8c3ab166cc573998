import { pause } from "@berth/retry";

/** `promise`, or an Error with `message` after `ms`. A promise that is given up may fail later without notice. */
export async function withDeadline<T>(promise: Promise<T>, ms: number, message: string): Promise<T> {
  promise.catch(() => {});
  const done = new AbortController();
  const late = pause(ms, done.signal).then(() => {
    throw new Error(`${message} within ${ms / 1000} s`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([promise, late]);
  } finally {
    done.abort();
  }
}
