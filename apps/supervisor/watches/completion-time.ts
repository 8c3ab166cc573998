import { formatDuration } from "@berth/duration";
import type { Watch, WatchedTask } from "../task/ports.ts";

/**
 * max_completion_time: counted from LAUNCH, ended without a grace period and without TASK_KILLING in between, as Mesos's own
 * executors do. A kill that comes first takes the watch away.
 */
export function completionTimeWatch(now: () => number): Watch {
  return {
    name: "max_completion_time",
    decidesHealth: () => false,
    begin({ task, launchedAt }: WatchedTask, verdicts) {
      const nanoseconds = task.max_completion_time?.nanoseconds;
      if (nanoseconds === undefined) return () => {};
      const limitMs = nanoseconds / 1e6;
      const end = startLongTimer(launchedAt + limitMs, now, () => {
        verdicts.stop("max-completion-time", `it did not complete within its max_completion_time of ${formatDuration(limitMs)}`, 0);
      });
      return end;
    },
  };
}

/** Node's timers overflow after 24.8 days; a task may have longer. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Calls `due` at a time in milliseconds since the epoch, however far away; returns what cancels it. */
function startLongTimer(at: number, now: () => number, due: () => void): () => void {
  let timer: NodeJS.Timeout;
  function arm(): void {
    const rest = at - now();
    timer = rest > MAX_TIMER_MS ? setTimeout(arm, MAX_TIMER_MS) : setTimeout(due, Math.max(0, rest));
  }
  arm();
  return () => clearTimeout(timer);
}
