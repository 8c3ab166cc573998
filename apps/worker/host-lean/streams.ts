import type { Connection, ConnectionHandlers } from "../core/host.ts";
import type { Natives } from "./natives.ts";

/** Reads in a row before others get their turn; what is left makes the descriptor ready again. */
const MAX_READS = 16;

interface Stream {
  ready(readable: boolean, writable: boolean): void;
}

/**
 * Everything that is read and written without blocking, by the number of its descriptor.
 *
 * INVARIANTS: handlers are called from `ready` alone, never from within `write` or `close`; after `close`, or after its own close
 * handler, a connection calls nothing any more; queued bytes leave in order and whole, or the connection ends.
 */
export class Streams {
  readonly #natives: Natives;
  readonly #streams = new Map<number, Stream>();
  readonly #queued = new Set<SocketStream>();

  constructor(natives: Natives) {
    this.#natives = natives;
  }

  ready(id: number, readable: boolean, writable: boolean): void {
    this.#streams.get(id)?.ready(readable, writable);
  }

  /** A descriptor that is connecting. */
  connection(id: number, handlers: ConnectionHandlers): Connection {
    const stream = new SocketStream(this.#natives, id, handlers, this.#queued, () => this.#remove(id));
    this.#streams.set(id, stream);
    return { write: (bytes) => stream.write(bytes), close: () => stream.close() };
  }

  /** A pipe to read from. Returns a function that reads what is there already. */
  pipe(id: number, data: (bytes: Uint8Array) => void): () => void {
    const read = (): void => {
      if (!this.#streams.has(id)) return;
      for (;;) {
        const got = this.#natives.read(id);
        if (got === "EAGAIN") return;
        if (got === null || typeof got === "string") return this.#remove(id);
        data(new Uint8Array(got));
      }
    };
    this.#streams.set(id, { ready: read });
    return read;
  }

  /** Lets queued bytes go for at most so long. Calls no handler. */
  drain(milliseconds: number): void {
    const end = this.#natives.monotonicClock() + milliseconds;
    for (const stream of this.#queued) stream.close();
    for (;;) {
      for (const stream of this.#queued) stream.flush();
      const left = end - this.#natives.monotonicClock();
      if (this.#queued.size === 0 || left <= 0) return;
      this.#natives.waitWritable(left);
    }
  }

  #remove(id: number): void {
    this.#streams.delete(id);
    this.#natives.close(id);
  }
}

/**
 * `connecting` until the kernel says how that went; `ended`: the peer has sent its end, what is queued for it still goes;
 * `closing`: we are done with it, what is queued still goes, without a word to anyone.
 */
type Phase = "connecting" | "open" | "ended" | "closing" | "closed";

class SocketStream implements Stream {
  readonly #natives: Natives;
  readonly #id: number;
  readonly #handlers: ConnectionHandlers;
  readonly #queue: Uint8Array[] = [];
  readonly #queued: Set<SocketStream>;
  readonly #remove: () => void;
  #phase: Phase = "connecting";

  constructor(natives: Natives, id: number, handlers: ConnectionHandlers, queued: Set<SocketStream>, remove: () => void) {
    this.#natives = natives;
    this.#id = id;
    this.#handlers = handlers;
    this.#queued = queued;
    this.#remove = remove;
  }

  write(bytes: Uint8Array): void {
    if (this.#phase === "closing" || this.#phase === "closed" || bytes.length === 0) return;
    this.#queue.push(bytes);
    this.#queued.add(this);
    if (this.#phase === "connecting") return;
    // A failure is told by the loop, not in here: it makes the descriptor ready.
    if (this.#queue.length === 1) this.#writeQueue();
    this.#watch();
  }

  close(): void {
    if (this.#phase === "closed") return;
    // What is queued on a connection that is not open yet goes nowhere.
    if (this.#phase === "connecting" || this.#queue.length === 0) return this.#end();
    this.#phase = "closing";
    this.#watch();
  }

  /** Writes what the kernel takes; a connection that is closing ends with its last byte. */
  flush(): void {
    const error = this.#writeQueue();
    if (error !== null || (this.#phase === "closing" && this.#queue.length === 0)) this.#end();
    else this.#watch();
  }

  ready(readable: boolean, writable: boolean): void {
    if (this.#phase === "connecting") {
      const error = this.#natives.connectResult(this.#id) ?? null;
      if (error !== null) return this.#fail(error);
      this.#phase = "open";
      this.#watch();
      this.#handlers.open();
      return this.#settle();
    }
    if (this.#phase === "closing") return this.flush();
    if (writable && this.#queue.length > 0) {
      const error = this.#writeQueue();
      // What the peer said before it went away is read first, below; a reset has nothing to read.
      if (error !== null && !readable) return this.#fail(error);
    }
    if (readable) this.#read();
    this.#settle();
  }

  #read(): void {
    for (let reads = 0; reads < MAX_READS && this.#phase === "open"; reads++) {
      const got = this.#natives.read(this.#id);
      if (got === "EAGAIN") return;
      if (typeof got === "string") return this.#fail(got);
      if (got === null) {
        this.#phase = "ended";
        return;
      }
      this.#handlers.data(new Uint8Array(got));
    }
  }

  /** After an event: sends what the handlers queued, and ends what has reached its end. */
  #settle(): void {
    if (this.#phase === "closed" || this.#phase === "connecting") return;
    if (this.#queue.length > 0) {
      const error = this.#writeQueue();
      if (error !== null && this.#phase !== "open") return this.#fail(error);
    }
    if (this.#phase === "ended" && this.#queue.length === 0) return this.#fail(null);
    this.#watch();
  }

  /** Returns an error's name when the connection cannot be written any more. */
  #writeQueue(): string | null {
    if (this.#phase === "closed" || this.#phase === "connecting") return null;
    while (this.#queue.length > 0) {
      const bytes = this.#queue[0] as Uint8Array;
      const taken = this.#natives.write(this.#id, bytes.buffer, bytes.byteOffset, bytes.length);
      if (taken === "EAGAIN") return null;
      if (typeof taken === "string") return taken;
      if (taken < bytes.length) this.#queue[0] = bytes.subarray(taken);
      else this.#queue.shift();
    }
    this.#queued.delete(this);
    return null;
  }

  #watch(): void {
    if (this.#phase !== "closed") this.#natives.watch(this.#id, this.#phase === "open", this.#queue.length > 0);
  }

  /** Ends and tells. */
  #fail(error: string | null): void {
    const silent = this.#phase === "closing";
    this.#end();
    if (!silent) this.#handlers.close(error);
  }

  #end(): void {
    this.#phase = "closed";
    this.#queue.length = 0;
    this.#queued.delete(this);
    this.#remove();
  }
}
