import type { LeftBehind } from "./left-behind.ts";
import type { Line } from "./line.ts";
import { Outstanding } from "./outstanding.ts";
import { FrameWriter, type LineFormatter } from "./records.ts";
import { type Sink, SinkCounters } from "./sink.ts";
import { type Parcel, REFUSED, type Transport } from "./transport.ts";
import type { SinkConfig, SinkStatistics } from "./types.ts";

const DEFAULT_QUEUE = 4 * 1024 * 1024;

export interface RemoteSinkOptions {
  type: SinkConfig["type"];
  name: string;
  format: LineFormatter;
  transport: Transport;
  leftBehind: LeftBehind;
  queueBytes?: number;
  /** Octet counting (RFC 6587): the length in front of each frame. */
  octetCount?: boolean;
  until?: number;
}

/** Lines to a receiver elsewhere, through a transport that other tasks may share; its own bounded queue keeps tasks apart. */
export class RemoteSink implements Sink {
  readonly name: string;
  readonly counters: SinkCounters;
  readonly #options: RemoteSinkOptions;
  readonly #writer = new FrameWriter();
  readonly #waiting = new Outstanding<Parcel>();
  #resent = 0;
  #left = 0;
  /** One for all parcels: it is kept for longer than they are, and must not hold them. */
  readonly #countResent = (lines: number): void => {
    this.#resent += lines;
  };
  /** They stay among those that were sent: a count of the metrics never goes down. */
  readonly #countRefused = (lines: number): void => this.counters.drop(REFUSED, lines);

  constructor(options: RemoteSinkOptions) {
    this.name = options.name;
    this.#options = options;
    this.counters = new SinkCounters(options.type, options.name);
  }

  write(lines: readonly Line[], batch: number): void {
    const { until, format, octetCount, transport } = this.#options;
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
    if (this.#waiting.bytes + bytes.length > (this.#options.queueBytes ?? DEFAULT_QUEUE)) {
      return this.counters.drop(transport.alive ? "queue full" : "receiver away", ends.length);
    }
    const parcel: Parcel = {
      bytes,
      ends,
      next: 0,
      cancelled: false,
      done: (sent, lost, reason) => this.#done(parcel, sent, lost, reason),
      resent: this.#countResent,
      refused: this.#countRefused,
    };
    this.#waiting.add(parcel, batch, bytes.length);
    transport.send(parcel);
  }

  confirmed(): number {
    return this.#waiting.confirmed();
  }

  progress(): Promise<void> {
    return this.#waiting.progress();
  }

  room(): Promise<void> {
    return this.#waiting.room(() => this.#options.transport.alive);
  }

  drained(signal: AbortSignal): Promise<void> {
    // A receiver that is away gets what is left when it is back: the task's end does not wait for it.
    return this.#waiting.allSettled(() => !signal.aborted && this.#options.transport.alive);
  }

  close(leave = false): void {
    const { leftBehind, type } = this.#options;
    for (const parcel of this.#waiting.items()) {
      if (leave && leftBehind.take(parcel, type)) {
        this.#left += parcel.ends.length;
        continue;
      }
      parcel.cancelled = true;
      this.counters.sent += parcel.next;
      this.counters.drop("not delivered in time", parcel.ends.length - parcel.next);
    }
    this.#waiting.clear();
  }

  statistics(): SinkStatistics {
    const { until, transport } = this.#options;
    this.counters.problem = until !== undefined && Date.now() > until ? undefined : transport.problem;
    return {
      ...this.counters.statistics(this.#waiting.bytes),
      ...(this.#left === 0 ? {} : { left: this.#left }),
      ...(this.#resent === 0 ? {} : { resent: this.#resent }),
    };
  }

  #done(parcel: Parcel, sent: number, lost: number, reason: string): void {
    if (!this.#waiting.settle(parcel)) return;
    this.counters.sent += sent;
    this.counters.drop(reason, lost);
  }
}
