import type { Connection, ConnectionHandlers } from "../core/host.ts";
import { EAGAIN, type Native, READ, WRITE } from "./native.ts";
import type { Timers } from "./timers.ts";

/**
 * `connecting` → `open` → `ending` (the peer said its last, or `close` was called; what is queued is still written) → gone.
 */
interface Socket {
  id: number;
  state: "connecting" | "open" | "ending";
  queue: Uint8Array[];
  /** Null once the owner has closed it: nobody is told anything any more. */
  handlers: ConnectionHandlers | null;
}

/** How long a closed connection may take to write what was queued, milliseconds. */
const LINGER_MS = 2000;
/** So many reads for one connection, then the others get their turn. */
const MAX_READS = 32;

/**
 * Stream sockets with queues.
 *
 * INVARIANTS: bytes leave in the order of `write`; a handler is never called from within the call that registers it, nor after
 * `close`; each connection ends with one `close` unless its owner closed it.
 */
export class Connections {
  readonly #native: Native;
  readonly #timers: Timers;
  readonly #sockets = new Map<number, Socket>();

  constructor(native: Native, timers: Timers) {
    this.#native = native;
    this.#timers = timers;
  }

  /** `id`: from connectUnix or connectTcp. */
  open(id: number, handlers: ConnectionHandlers): Connection {
    if (id < 0) return this.#failed(this.#native.errorName(-id), handlers);
    const socket: Socket = { id, state: "connecting", queue: [], handlers };
    this.#sockets.set(id, socket);
    this.#native.watch(id, WRITE);
    return {
      write: (bytes) => this.#write(socket, bytes),
      close: () => this.#close(socket),
    };
  }

  /** Whether the descriptor is one of these connections; if so, does what can be done with it. */
  ready(id: number, readable: boolean, writable: boolean): boolean {
    const socket = this.#sockets.get(id);
    if (socket === undefined) return false;
    if (socket.state === "connecting") {
      if (!this.#connected(socket)) return true;
      socket.handlers?.open();
    }
    if (writable && this.#sockets.has(id)) this.#flush(socket);
    if (readable && this.#sockets.has(id) && socket.state === "open") this.#read(socket);
    return true;
  }

  /** Writes what is queued anywhere, for so long at most, and reads nothing any more. Nobody is told anything. */
  drain(milliseconds: number): void {
    const end = this.#native.monotonicClock() + milliseconds;
    for (const socket of [...this.#sockets.values()]) {
      socket.handlers = null;
      if (socket.queue.length === 0) this.#forget(socket);
      else this.#native.watch(socket.id, WRITE);
    }
    while (this.#sockets.size > 0) {
      const left = Math.ceil(end - this.#native.monotonicClock());
      if (left <= 0) return;
      for (const id of this.#native.waitWritable(left)) {
        const socket = this.#sockets.get(id);
        if (socket === undefined || (socket.state === "connecting" && !this.#connected(socket))) continue;
        socket.state = "ending";
        this.#flush(socket);
      }
    }
  }

  #failed(error: string, handlers: ConnectionHandlers): Connection {
    const timer = this.#timers.set(0, () => handlers.close(error));
    return { write: () => {}, close: () => this.#timers.clear(timer) };
  }

  #connected(socket: Socket): boolean {
    const errno = this.#native.outcome(socket.id);
    if (errno === 0) socket.state = "open";
    else this.#end(socket, this.#native.errorName(errno));
    return errno === 0;
  }

  #write(socket: Socket, bytes: Uint8Array): void {
    if (socket.state === "ending" || this.#sockets.get(socket.id) !== socket || bytes.length === 0) return;
    socket.queue.push(bytes);
    // Bytes behind others wait for the loop; so do a failure's consequences, which must not come from within `write`.
    if (socket.state === "open" && socket.queue.length === 1) this.#send(socket);
    if (socket.queue.length > 0) this.#watch(socket);
  }

  /** Sends what the kernel takes. Returns the errno of a failure, 0 without one. */
  #send(socket: Socket): number {
    for (let bytes = socket.queue[0]; bytes !== undefined; bytes = socket.queue[0]) {
      const taken = this.#native.write(socket.id, bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length);
      if (taken < 0) return taken === -EAGAIN ? 0 : -taken;
      if (taken < bytes.length) socket.queue[0] = bytes.subarray(taken);
      else socket.queue.shift();
    }
    return 0;
  }

  #flush(socket: Socket): void {
    const errno = this.#send(socket);
    if (errno !== 0) this.#end(socket, this.#native.errorName(errno));
    else if (socket.queue.length === 0 && socket.state === "ending") this.#end(socket, null);
    else this.#watch(socket);
  }

  #read(socket: Socket): void {
    for (let count = 0; count < MAX_READS && socket.handlers !== null; count++) {
      const got = this.#native.read(socket.id);
      if (typeof got !== "number") socket.handlers.data(new Uint8Array(got));
      else if (got === -EAGAIN) return;
      else if (got < 0) return this.#end(socket, this.#native.errorName(-got));
      else return this.#endAfterQueue(socket);
    }
  }

  /** The peer closed its side: it may still read what we have for it. */
  #endAfterQueue(socket: Socket): void {
    if (socket.queue.length === 0) return this.#end(socket, null);
    socket.state = "ending";
    this.#watch(socket);
  }

  #close(socket: Socket): void {
    if (this.#sockets.get(socket.id) !== socket || socket.handlers === null) return;
    socket.handlers = null;
    if (socket.queue.length === 0 || socket.state === "connecting") return this.#forget(socket);
    socket.state = "ending";
    this.#watch(socket);
    this.#timers.set(LINGER_MS, () => this.#forget(socket));
  }

  #end(socket: Socket, error: string | null): void {
    this.#forget(socket);
    const { handlers } = socket;
    socket.handlers = null;
    handlers?.close(error);
  }

  #forget(socket: Socket): void {
    if (this.#sockets.delete(socket.id)) this.#native.close(socket.id);
  }

  #watch(socket: Socket): void {
    const read = socket.state === "open" ? READ : 0;
    const write = socket.state === "connecting" || socket.queue.length > 0 ? WRITE : 0;
    this.#native.watch(socket.id, read | write);
  }
}
