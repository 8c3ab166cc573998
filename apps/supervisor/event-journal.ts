import type { HostEvent } from "@berth/admin-api";

/**
 * The last events of all tasks of the host, and a live stream of those to come. Memory only: after a restart it begins anew.
 *
 * INVARIANT: what is kept is bounded, however slowly a follower reads: one that falls behind the kept events is told how many it missed.
 */
export class EventJournal {
  readonly #events: HostEvent[] = [];
  readonly #capacity: number;
  readonly #wakers = new Set<() => void>();
  #sequence = 0;

  constructor(capacity = 2000) {
    this.#capacity = capacity;
  }

  /** Followers under way. */
  get followers(): number {
    return this.#wakers.size;
  }

  add(event: Omit<HostEvent, "sequence">): void {
    this.#events.push({ sequence: ++this.#sequence, ...event });
    if (this.#events.length > this.#capacity) this.#events.shift();
    for (const wake of this.#wakers) wake();
  }

  /** The kept events since a time (milliseconds since the epoch), oldest first. */
  since(time: number): HostEvent[] {
    return this.#events.filter((event) => event.at >= time);
  }

  /** The kept events since a time, then every new one until the signal aborts. */
  async *follow(time: number, signal: AbortSignal): AsyncGenerator<HostEvent> {
    let last = this.#sequence;
    let wake: () => void = () => {};
    const waker = (): void => wake();
    this.#wakers.add(waker);
    signal.addEventListener("abort", waker);
    try {
      yield* this.since(time);
      while (!signal.aborted) {
        if (last === this.#sequence) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
          continue;
        }
        const oldest = this.#events[0]?.sequence ?? 0;
        if (last + 1 < oldest) {
          yield { sequence: oldest - 1, at: this.#events[0]?.at ?? 0, taskId: "-", what: "missed", detail: `${oldest - 1 - last} events` };
          last = oldest - 1;
        }
        const next = this.#events[last + 1 - (this.#events[0]?.sequence ?? 0)];
        if (next === undefined) continue;
        last = next.sequence;
        yield next;
      }
    } finally {
      this.#wakers.delete(waker);
      signal.removeEventListener("abort", waker);
    }
  }
}
