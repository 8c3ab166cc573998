/** Gives back what {@link Gate.enter} took. May be called more than once; only the first counts. */
export type Leave = () => void;

/** Lets at most `limit` callers in at a time, the others in the order of their coming. */
export class Gate {
  readonly #limit: number;
  readonly #queue: Array<() => void> = [];
  #inside = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get inside(): number {
    return this.#inside;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  /** Resolves when there is room. Rejects with the signal's reason when it aborts first; its place is then given up. */
  async enter(signal: AbortSignal): Promise<Leave> {
    signal.throwIfAborted();
    if (this.#inside >= this.#limit) await this.#wait(signal);
    else this.#inside += 1;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      const next = this.#queue.shift();
      // The place goes from hand to hand, so that nobody who comes in between can take it.
      if (next === undefined) this.#inside -= 1;
      else next();
    };
  }

  #wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const enter = (): void => {
        signal.removeEventListener("abort", giveUp);
        resolve();
      };
      const giveUp = (): void => {
        this.#queue.splice(this.#queue.indexOf(enter), 1);
        reject(signal.reason);
      };
      this.#queue.push(enter);
      signal.addEventListener("abort", giveUp, { once: true });
    });
  }
}

/** One gate per key, made and dropped as needed: what one container holds up, it holds up for itself. */
export class KeyedGates {
  readonly #limit: number;
  readonly #gates = new Map<string, Gate>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  get waiting(): number {
    let waiting = 0;
    for (const gate of this.#gates.values()) waiting += gate.waiting;
    return waiting;
  }

  async enter(key: string, signal: AbortSignal): Promise<Leave> {
    const gate = this.#gates.get(key) ?? new Gate(this.#limit);
    this.#gates.set(key, gate);
    const drop = (): void => {
      if (gate.inside === 0 && gate.waiting === 0) this.#gates.delete(key);
    };
    try {
      const leave = await gate.enter(signal);
      return () => {
        leave();
        drop();
      };
    } catch (error) {
      drop();
      throw error;
    }
  }
}
