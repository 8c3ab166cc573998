import { EventEmitter, on } from "node:events";

/** Something that happened to a task, as `berth events` shows it. */
export interface HostEvent {
  /** Counts from 1 over the daemon's life. */
  sequence: number;
  /** Milliseconds since the epoch. */
  at: number;
  taskId: string;
  what: string;
  detail?: string;
}

/** The last events of all tasks of the host, and a live stream of those to come. Memory only: after a restart it begins anew. */
export class EventJournal {
  readonly #events: HostEvent[] = [];
  readonly #capacity: number;
  readonly #emitter = new EventEmitter().setMaxListeners(0);
  #sequence = 0;

  constructor(capacity = 2000) {
    this.#capacity = capacity;
  }

  add(event: Omit<HostEvent, "sequence">): void {
    const entry = { sequence: ++this.#sequence, ...event };
    this.#events.push(entry);
    if (this.#events.length > this.#capacity) this.#events.shift();
    this.#emitter.emit("event", entry);
  }

  /** The kept events since a time (milliseconds since the epoch), oldest first. */
  since(time: number): HostEvent[] {
    return this.#events.filter((event) => event.at >= time);
  }

  /** The kept events since a time, then every new one until the signal aborts. */
  async *follow(time: number, signal: AbortSignal): AsyncGenerator<HostEvent> {
    const live = on(this.#emitter, "event", { signal });
    let last = 0;
    for (const event of this.since(time)) {
      last = event.sequence;
      yield event;
    }
    try {
      for await (const [event] of live as AsyncIterable<[HostEvent]>) {
        if (event.sequence > last) yield event;
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }
}
