import type { Line } from "./line.ts";
import { FrameWriter, type LineFormatter } from "./records.ts";
import { type Sink, SinkCounters } from "./sink.ts";
import type { Parcel, Transport } from "./transport.ts";
import type { SinkStatistics } from "./types.ts";

const DEFAULT_QUEUE = 4 * 1024 * 1024;
/** One more batch is taken while less than this waits: what may come twice after a crash. */
const HIGH_WATER = 64 * 1024;
/** A receiver that makes no progress for this long no longer holds up reading nor the position. */
const PATIENCE_MS = 5_000;
const LOOK_MS = 50;

export interface RemoteSinkOptions {
  name: string;
  format: LineFormatter;
  /** Each batch goes to the next of them. */
  transports: () => readonly Transport[];
  queueBytes?: number;
  /** Octet counting (RFC 6587): the length in front of each frame. */
  octetCount?: boolean;
  until?: number;
}

/** Lines to a receiver elsewhere, through transports that other tasks may share; its own bounded queue keeps tasks apart. */
export class RemoteSink implements Sink {
  readonly name: string;
  readonly counters: SinkCounters;
  readonly #options: RemoteSinkOptions;
  readonly #writer = new FrameWriter();
  readonly #waiting = new Map<Parcel, { batch: number; bytes: number }>();
  #queued = 0;
  #turn = 0;
  #progress = performance.now();
  #wake: Array<() => void> = [];
  #lastTransport: Transport | undefined;

  constructor(options: RemoteSinkOptions) {
    this.name = options.name;
    this.#options = options;
    this.counters = new SinkCounters(options.name);
  }

  write(lines: readonly Line[], batch: number): void {
    const { until, format, octetCount } = this.#options;
    if (until !== undefined && Date.now() > until) return;
    for (const line of lines) {
      const before = this.#writer.length;
      format(line, this.#writer);
      if (this.#writer.length === before) continue; // The formatter left the line out.
      if (octetCount) this.#writer.prefix(before);
      this.#writer.end();
    }
    if (this.#writer.count === 0) return;
    const { bytes, ends } = this.#writer.take();
    const transports = this.#options.transports();
    const transport = transports[this.#turn++ % Math.max(1, transports.length)];
    if (transport === undefined) return this.counters.drop("no receiver known", ends.length);
    if (this.#queued + bytes.length > (this.#options.queueBytes ?? DEFAULT_QUEUE)) {
      return this.counters.drop(transport.alive ? "queue full" : "receiver away", ends.length);
    }
    this.#lastTransport = transport;
    if (this.#waiting.size === 0) this.#progress = performance.now();
    const parcel: Parcel = { bytes, ends, next: 0, cancelled: false, done: (sent, lost, reason) => this.#done(parcel, sent, lost, reason) };
    this.#waiting.set(parcel, { batch, bytes: bytes.length });
    this.#queued += bytes.length;
    transport.send(parcel);
  }

  confirmed(): number {
    const first = this.#waiting.values().next().value;
    if (first === undefined || this.#stuck()) return Number.POSITIVE_INFINITY;
    return first.batch - 1;
  }

  progress(): Promise<void> {
    return this.#changed();
  }

  async room(): Promise<void> {
    while (this.#queued >= HIGH_WATER && !this.#stuck() && this.#lastTransport?.alive !== false) await this.#changed();
  }

  async drained(signal: AbortSignal): Promise<void> {
    while (this.#waiting.size > 0 && !signal.aborted) await this.#changed();
  }

  close(): void {
    for (const parcel of this.#waiting.keys()) {
      parcel.cancelled = true;
      this.counters.drop("not delivered in time", parcel.ends.length - parcel.next);
    }
    this.#waiting.clear();
    this.#queued = 0;
    this.#changedNow();
  }

  statistics(): SinkStatistics {
    this.counters.problem = this.#lastTransport?.problem;
    return this.counters.statistics(this.#queued);
  }

  #stuck(): boolean {
    return this.#waiting.size > 0 && performance.now() - this.#progress > PATIENCE_MS;
  }

  #done(parcel: Parcel, sent: number, lost: number, reason: string): void {
    const entry = this.#waiting.get(parcel);
    if (entry === undefined) return;
    this.#waiting.delete(parcel);
    this.#queued -= entry.bytes;
    this.counters.sent += sent;
    this.counters.drop(reason, lost);
    this.#progress = performance.now();
    this.#changedNow();
  }

  #changedNow(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, LOOK_MS);
      this.#wake.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }
}
