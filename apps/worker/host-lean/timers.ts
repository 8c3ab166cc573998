const MAX_DELAY_MS = 2 ** 31 - 1;

interface Timer {
  at: number;
  callback: () => void;
}

/** One-shot timers, run by whoever owns the loop. A worker has a handful, so a list is searched faster than a heap is kept. */
export class Timers {
  readonly #clock: () => number;
  readonly #timers = new Map<number, Timer>();
  #next = 1;

  /** `clock`: milliseconds that never jump. */
  constructor(clock: () => number) {
    this.#clock = clock;
  }

  set(delayMs: number, callback: () => void): number {
    const id = this.#next++;
    const delay = delayMs > 0 ? Math.min(delayMs, MAX_DELAY_MS) : 0;
    this.#timers.set(id, { at: this.#clock() + delay, callback });
    return id;
  }

  clear(id: number): void {
    this.#timers.delete(id);
  }

  /** Runs what is due, the earliest first. Returns the milliseconds until the next timer, rounded up; -1 without any. */
  run(): number {
    const now = this.#clock();
    const due = [...this.#timers].filter(([, timer]) => timer.at <= now).sort(([, a], [, b]) => a.at - b.at);
    // One that an earlier one cleared is gone from the map; one that they set waits for the next round, after the descriptors.
    for (const [id, timer] of due) if (this.#timers.delete(id)) timer.callback();
    return this.#untilNext();
  }

  #untilNext(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { at } of this.#timers.values()) next = Math.min(next, at);
    return next === Number.POSITIVE_INFINITY ? -1 : Math.max(0, Math.ceil(next - this.#clock()));
  }
}
