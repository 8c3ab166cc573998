import { connect, type Socket } from "node:net";
import { type Parcel, RETRY_MS, splitAddress, type Transport } from "./transport.ts";
import type { TlsOptions } from "./types.ts";

const CONNECT_MS = 10_000;
/** A receiver that takes nothing for this long is taken for dead and connected again. */
const SILENT_MS = 30_000;
const KEEP_ALIVE_MS = 30_000;
/** Bytes handed to the socket and not taken by the kernel yet. */
const IN_FLIGHT = 256 * 1024;

/**
 * One TCP or TLS connection to one receiver, opened again for as long as it is needed. A parcel whose bytes were not all taken by
 * the kernel when the connection broke is sent again from its beginning, so that a line may come twice but is not lost half.
 */
export class StreamTransport implements Transport {
  readonly #address: string;
  readonly #tls: TlsOptions | undefined;
  #socket: Socket | undefined;
  #connected = false;
  #queue: Parcel[] = [];
  #inFlight: Parcel[] = [];
  #inFlightBytes = 0;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #delay = 100;
  problem: string | undefined;

  constructor(address: string, tls?: TlsOptions) {
    this.#address = address;
    this.#tls = tls;
    splitAddress(address);
  }

  get alive(): boolean {
    return this.problem === undefined;
  }

  send(parcel: Parcel): void {
    this.#queue.push(parcel);
    if (this.#connected) this.#flush();
    else this.#open();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.destroySoon();
  }

  #open(): void {
    if (this.#socket !== undefined || this.#timer !== undefined || this.#closed) return;
    void this.#connect().then(
      (socket) => this.#take(socket),
      (error: Error) => this.#lost(error),
    );
    // Holds off a second attempt while the first is under way.
    this.#timer = setTimeout(() => {}, 0);
  }

  async #connect(): Promise<Socket> {
    const { host, port } = splitAddress(this.#address);
    if (this.#tls === undefined) return connect({ host, port, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS });
    const { connect: connectTls } = await import("node:tls");
    const { verify = true, serverName = host, ...files } = this.#tls;
    return connectTls({ host, port, ...files, servername: /^[\d.:]+$/.test(serverName) ? "" : serverName, rejectUnauthorized: verify });
  }

  #take(socket: Socket): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#socket = socket;
    let reason: Error | undefined;
    socket.setTimeout(CONNECT_MS, () => socket.destroy(new Error("no answer in time")));
    socket.once(this.#tls === undefined ? "connect" : "secureConnect", () => {
      this.#connected = true;
      this.problem = undefined;
      this.#delay = 100;
      socket.setTimeout(0);
      socket.unref();
      this.#flush();
    });
    socket.on("data", () => {}); // Read, so that the receiver's end is noticed.
    socket.on("drain", () => this.#flush());
    socket.on("error", (error) => {
      reason = error;
    });
    socket.on("close", () => {
      if (this.#socket === socket) this.#lost(reason ?? new Error("the receiver closed the connection"));
    });
    if (this.#closed) socket.destroySoon();
  }

  #flush(): void {
    const socket = this.#socket;
    if (socket === undefined || !this.#connected) return;
    while (this.#inFlightBytes < IN_FLIGHT) {
      const parcel = this.#queue.shift();
      if (parcel === undefined) break;
      if (parcel.cancelled) continue;
      this.#inFlight.push(parcel);
      this.#inFlightBytes += parcel.bytes.length;
      const stuck = setTimeout(() => socket.destroy(new Error(`the receiver takes nothing for ${SILENT_MS / 1000} s`)), SILENT_MS).unref();
      socket.write(parcel.bytes, (error) => {
        clearTimeout(stuck);
        if (error || this.#socket !== socket) return;
        const at = this.#inFlight.indexOf(parcel);
        if (at < 0) return;
        this.#inFlight.splice(at, 1);
        this.#inFlightBytes -= parcel.bytes.length;
        if (!parcel.cancelled) parcel.done(parcel.ends.length, 0, "");
        this.#flush();
      });
    }
  }

  #lost(error: Error): void {
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#connected = false;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#queue = [...this.#inFlight, ...this.#queue].filter(({ cancelled }) => !cancelled);
    this.#inFlight = [];
    this.#inFlightBytes = 0;
    this.problem = `${this.#tls === undefined ? "tcp" : "tls"} ${this.#address}: ${error.message}`;
    if (this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#queue.length > 0) this.#open();
    }, this.#delay).unref();
    this.#delay = Math.min(this.#delay * 2, RETRY_MS * 5);
  }
}
