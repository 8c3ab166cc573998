import type { Host } from "./host.ts";

type Descriptor = 1 | 2;

export interface OwnOutputHandlers {
  /** Whether the children's output is to be read: one that writes faster than the sandbox takes it waits, as it would at a pipe of its own. */
  takes(more: boolean): void;
  /** It flows again, after so many bytes were dropped. */
  dropped(fd: Descriptor, bytes: number): void;
}

interface Piece {
  bytes: Uint8Array;
  onGone: (() => void) | undefined;
}

interface Stream {
  fd: Descriptor;
  queue: Piece[];
  size: number;
  /** Nobody has read it for longer than PATIENCE_MS. */
  stuck: boolean;
  /** When something of it was last taken, or nothing waited; by the monotonic clock. */
  progressAt: number;
  dropped: number;
  retryMs: number;
  retry: number | undefined;
}

/** More than this waits: the children's output is not read for now. */
const HIGH_WATER = 256 * 1024;
const LOW_WATER = 64 * 1024;
/** What the worker itself has to say, and what was read already, may wait up to here. */
const MAX_WAITING = 1024 * 1024;
/** What nobody reads for this long is not waited for any longer, milliseconds: the task and its log targets have to go on. */
const PATIENCE_MS = 5000;
const MIN_RETRY_MS = 2;
const MAX_RETRY_MS = 200;

/**
 * The worker's stdout and stderr. Where they are pipes and their reader is slow or stuck, neither the session with the agent nor the
 * supervisor's words wait for it.
 *
 * INVARIANTS: what is written leaves in that order; a piece leaves whole, or is dropped and counted whole; at most MAX_WAITING and one
 * piece wait for each of the two.
 */
export class OwnOutput {
  readonly #host: Host;
  readonly #handlers: OwnOutputHandlers;
  readonly #streams: Record<Descriptor, Stream>;
  #taking = true;
  #onDrained: (() => void) | undefined;

  constructor(host: Host, handlers: OwnOutputHandlers) {
    this.#host = host;
    this.#handlers = handlers;
    this.#streams = { 1: newStream(1), 2: newStream(2) };
  }

  /** Calls `onGone` when all of it has left, or was dropped; at once where it does not wait. */
  write(fd: Descriptor, bytes: Uint8Array, onGone?: () => void): void {
    const stream = this.#streams[fd];
    if (stream.stuck || stream.size + bytes.length > Math.max(MAX_WAITING, bytes.length)) {
      stream.dropped += bytes.length;
      return onGone?.();
    }
    const taken = stream.queue.length > 0 ? 0 : this.#host.writeDescriptor(fd, bytes);
    if (taken === bytes.length) return onGone?.();
    if (stream.queue.length === 0) stream.progressAt = this.#host.monotonicClock();
    stream.queue.push({ bytes: bytes.subarray(taken), onGone });
    stream.size += bytes.length - taken;
    this.#retryLater(stream);
    this.#regulate();
  }

  /** Calls back once everything is written, or after this many milliseconds. */
  drained(limitMs: number, callback: () => void): void {
    if (this.#empty) return callback();
    const limit = this.#host.setTimer(limitMs, () => this.#onDrained?.());
    this.#onDrained = () => {
      this.#onDrained = undefined;
      this.#host.clearTimer(limit);
      callback();
    };
  }

  get #empty(): boolean {
    return this.#streams[1].size === 0 && this.#streams[2].size === 0;
  }

  #retryLater(stream: Stream): void {
    if (stream.retry !== undefined) return;
    stream.retry = this.#host.setTimer(stream.retryMs, () => {
      stream.retry = undefined;
      this.#flush(stream);
    });
    stream.retryMs = Math.min(MAX_RETRY_MS, stream.retryMs * 2);
  }

  #flush(stream: Stream): void {
    const before = stream.size;
    for (let piece = stream.queue[0]; piece !== undefined; piece = stream.queue[0]) {
      const { bytes, onGone } = piece;
      const taken = this.#host.writeDescriptor(stream.fd, bytes);
      stream.size -= taken;
      if (taken < bytes.length) {
        piece.bytes = bytes.subarray(taken);
        break;
      }
      stream.queue.shift();
      onGone?.();
    }
    const now = this.#host.monotonicClock();
    if (stream.size < before) {
      stream.progressAt = now;
      stream.retryMs = MIN_RETRY_MS;
    } else if (!stream.stuck && now - stream.progressAt >= PATIENCE_MS) this.#giveUp(stream);
    if (stream.size > 0) this.#retryLater(stream);
    else this.#flowsAgain(stream);
    this.#regulate();
    if (this.#empty) this.#onDrained?.();
  }

  /** All but the first piece, of which a part may have left already. */
  #giveUp(stream: Stream): void {
    stream.stuck = true;
    for (const { bytes, onGone } of stream.queue.splice(1)) {
      stream.size -= bytes.length;
      stream.dropped += bytes.length;
      onGone?.();
    }
    // Whoever waits for the first one waits no longer either.
    const [first] = stream.queue;
    first?.onGone?.();
    if (first !== undefined) first.onGone = undefined;
  }

  #flowsAgain(stream: Stream): void {
    stream.stuck = false;
    const { dropped } = stream;
    stream.dropped = 0;
    if (dropped > 0) this.#handlers.dropped(stream.fd, dropped);
  }

  #regulate(): void {
    const waiting = [this.#streams[1], this.#streams[2]].filter(({ stuck }) => !stuck).map(({ size }) => size);
    const most = Math.max(0, ...waiting);
    const takes = this.#taking ? most <= HIGH_WATER : most < LOW_WATER;
    if (takes === this.#taking) return;
    this.#taking = takes;
    this.#handlers.takes(takes);
  }
}

function newStream(fd: Descriptor): Stream {
  return { fd, queue: [], size: 0, stuck: false, progressAt: 0, dropped: 0, retryMs: MIN_RETRY_MS, retry: undefined };
}
