import { formatDuration } from "@berth/duration";

/** Waits for `work` no longer than this; its signal then aborts, and the wait is over whether it heeds that or not. */
export async function within<T>(ms: number, work: (abort: AbortSignal) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const error = new Error(`no answer within ${formatDuration(ms)}`);
      abort.abort(error);
      reject(error);
    }, ms);
  });
  const running = work(abort.signal);
  running.catch(() => {}); // One that is left behind may still fail.
  try {
    return await Promise.race([running, late]);
  } finally {
    clearTimeout(timer);
  }
}
