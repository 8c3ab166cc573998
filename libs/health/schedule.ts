/** When a check runs: the first time after its delay, then always `interval` after the end of the one before. Milliseconds. */
export interface Rhythm {
  delayMs: number;
  intervalMs: number;
  /** When checking began for this task, in an earlier supervisor's life perhaps. */
  since: number;
}

export interface Clock {
  now: () => number;
  random: () => number;
}

/** After a restart of the supervisor all tasks' checks are due at once: they are spread over this long at most. */
const MAX_SPREAD_MS = 10_000;
/** Zero is a legal interval; a loop without any wait is not. */
const MIN_INTERVAL_MS = 100;
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Runs `check` by its rhythm until the signal aborts. `check` must not reject. */
export function repeat(rhythm: Rhythm, clock: Clock, check: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): void {
  let timer: NodeJS.Timeout | undefined;
  signal.addEventListener("abort", () => clearTimeout(timer), { once: true });

  async function run(): Promise<void> {
    await check(signal);
    if (!signal.aborted) arm(Math.max(MIN_INTERVAL_MS, rhythm.intervalMs));
  }

  function arm(ms: number): void {
    timer = setTimeout(() => void run(), Math.min(ms, MAX_TIMER_MS));
  }

  const rest = rhythm.since + rhythm.delayMs - clock.now();
  arm(rest > 0 ? rest : clock.random() * Math.min(rhythm.intervalMs, MAX_SPREAD_MS));
}
