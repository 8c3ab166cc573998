import type { Parcel } from "./transport.ts";
import type { SinkConfig } from "./types.ts";

/** The most that is kept of tasks that are over, of all together. */
const MOST_BYTES = 16 * 1024 * 1024;
/** A receiver that is away for longer does not get it. */
const KEEP_MS = 120_000;

export interface LeftBehindOptions {
  /** What became of it in the end. */
  settled: (type: SinkConfig["type"], sent: number, lost: number, reason: string) => void;
  keepMs?: number;
}

/**
 * Lines of tasks that are over, on their way to receivers that are away or slow: a task does not wait for its log, and its last
 * lines, which tell why it ended, are not lost because the receiver was just being started again.
 */
export class LeftBehind {
  readonly #options: LeftBehindOptions;
  readonly #kept = new Map<Parcel, { type: SinkConfig["type"]; until: number }>();
  #bytes = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: LeftBehindOptions) {
    this.#options = options;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Takes a parcel over that a transport holds; false where there is too much already. */
  take(parcel: Parcel, type: SinkConfig["type"]): boolean {
    if (this.#bytes + parcel.bytes.length > MOST_BYTES) return false;
    this.#bytes += parcel.bytes.length;
    const keepMs = this.#options.keepMs ?? KEEP_MS;
    this.#kept.set(parcel, { type, until: performance.now() + keepMs });
    parcel.done = (sent, lost, reason) => this.#settle(parcel, sent, lost, reason);
    this.#timer ??= setTimeout(() => this.#expire(), keepMs).unref();
    return true;
  }

  close(): void {
    clearTimeout(this.#timer);
    for (const parcel of this.#kept.keys()) this.#giveUp(parcel);
  }

  #expire(): void {
    this.#timer = undefined;
    const now = performance.now();
    for (const [parcel, { until }] of this.#kept) if (until <= now + 1) this.#giveUp(parcel);
    const [first] = this.#kept.values();
    if (first !== undefined) this.#timer = setTimeout(() => this.#expire(), first.until - now).unref();
  }

  #giveUp(parcel: Parcel): void {
    parcel.cancelled = true;
    this.#settle(parcel, parcel.next, parcel.ends.length - parcel.next, "not delivered in time");
  }

  #settle(parcel: Parcel, sent: number, lost: number, reason: string): void {
    const kept = this.#kept.get(parcel);
    if (kept === undefined) return;
    this.#kept.delete(parcel);
    this.#bytes -= parcel.bytes.length;
    this.#options.settled(kept.type, sent, lost, reason);
  }
}
