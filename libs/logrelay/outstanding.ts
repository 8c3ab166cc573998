/** One more batch is taken while less than this waits: what may come twice after a crash. */
const HIGH_WATER = 64 * 1024;
/** Whoever makes no progress for this long no longer holds up reading nor the position. */
const PATIENCE_MS = 5_000;
const LOOK_MS = 50;

/** What a sink has handed on and has not heard of yet, oldest first; from this follows what it confirms and when there is room for more. */
export class Outstanding<Item> {
  readonly #entries = new Map<Item, { batch: number; bytes: number }>();
  #bytes = 0;
  #progressAt = performance.now();
  #wake: Array<() => void> = [];

  get bytes(): number {
    return this.#bytes;
  }

  items(): Iterable<Item> {
    return this.#entries.keys();
  }

  add(item: Item, batch: number, bytes: number): void {
    if (this.#entries.size === 0) this.#progressAt = performance.now();
    this.#entries.set(item, { batch, bytes });
    this.#bytes += bytes;
  }

  /** It was delivered or dropped. False where nobody waits for it any more. */
  settle(item: Item): boolean {
    const entry = this.#entries.get(item);
    if (entry === undefined) return false;
    this.#entries.delete(item);
    this.#bytes -= entry.bytes;
    this.#progressAt = performance.now();
    this.#changed();
    return true;
  }

  /** Nothing of it is waited for any more. */
  clear(): void {
    this.#entries.clear();
    this.#bytes = 0;
    this.#changed();
  }

  /** Every batch up to this one is settled; Infinity where nothing waits, or has waited too long. */
  confirmed(): number {
    const first = this.#entries.values().next().value;
    return first === undefined || this.#stuck() ? Number.POSITIVE_INFINITY : first.batch - 1;
  }

  /** Resolves when something was settled, or after a moment. */
  progress(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, LOOK_MS);
      this.#wake.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  /** Resolves when there is room for another batch, or when waiting is no use. */
  async room(worthWaiting: () => boolean): Promise<void> {
    while (this.#bytes >= HIGH_WATER && !this.#stuck() && worthWaiting()) await this.progress();
  }

  /** Resolves when all is settled, or when waiting is no use. */
  async allSettled(worthWaiting: () => boolean): Promise<void> {
    while (this.#entries.size > 0 && worthWaiting()) await this.progress();
  }

  #stuck(): boolean {
    return this.#entries.size > 0 && performance.now() - this.#progressAt > PATIENCE_MS;
  }

  #changed(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}
