/** What the log thread sends beside its positions, so that it is told without a message when they are taken. */
export interface TakenMark {
  sequence: bigint;
  shared: SharedArrayBuffer;
}

/** The log thread's end of a counter in shared memory: how much of what it told the main thread has taken. */
export class TakenCounter {
  readonly #shared = new BigInt64Array(new SharedArrayBuffer(8));
  #sent = 0n;

  /** A mark for the next message; {@link reached} waits for it. */
  next(): TakenMark {
    this.#sent += 1n;
    return { sequence: this.#sent, shared: this.#shared.buffer };
  }

  /** Resolves once the other side has taken that message. It never does when the other side hangs: then nothing more is read. */
  async reached(sequence: bigint): Promise<void> {
    for (;;) {
      const taken = Atomics.load(this.#shared, 0);
      if (taken >= sequence) return;
      const wait = Atomics.waitAsync(this.#shared, 0, taken);
      if (wait.async) await wait.value;
    }
  }
}

/** The main thread has taken a message, and everything before it. */
export function markTaken({ sequence, shared }: TakenMark): void {
  const counter = new BigInt64Array(shared);
  Atomics.store(counter, 0, sequence);
  Atomics.notify(counter, 0);
}
