interface Timer {
  at: number;
  callback: () => void;
}

/** Timers on a clock that never jumps. A worker has a handful, so that a list is searched faster than a heap is kept. */
export class Timers {
  readonly #clock: () => number;
  readonly #timers = new Map<number, Timer>();
  #last = 0;

  constructor(clock: () => number) {
    this.#clock = clock;
  }

  set(delayMs: number, callback: () => void): number {
    this.#last += 1;
    this.#timers.set(this.#last, { at: this.#clock() + Math.max(0, delayMs), callback });
    return this.#last;
  }

  clear(id: number): void {
    this.#timers.delete(id);
  }

  /** Calls what is due, the earliest first, and nothing that is set meanwhile; returns the milliseconds to the next one, or -1. */
  run(): number {
    const now = this.#clock();
    const due = [...this.#timers].filter(([, timer]) => timer.at <= now).sort(([a, one], [b, other]) => one.at - other.at || a - b);
    for (const [id, timer] of due) {
      // An earlier one of the row may have cleared it.
      if (this.#timers.delete(id)) timer.callback();
    }
    if (this.#timers.size === 0) return -1;
    let next = Number.POSITIVE_INFINITY;
    for (const { at } of this.#timers.values()) next = Math.min(next, at);
    return Math.max(0, next - this.#clock());
  }
}
