import { lookup } from "node:dns/promises";
import { isIPv6 } from "node:net";
import type { DatagramSocket, SocketAddress } from "./datagram-socket.ts";
import type { DatagramSockets } from "./datagram-sockets.ts";
import { type Parcel, REFUSED, RETRY_MS, splitAddress, type Transport } from "./transport.ts";

const DEFAULT_RATE = 100_000;
/** Datagrams in one go: two runs. A receiver's default buffer holds about 170 of our size. */
const BURST = 128;
/** The same where the room in the receiver's buffer is known. */
const BURST_WITH_ROOM = 512;
/** A burst is not waited for longer than this. */
const BURST_MS = 2;
/** How long the kernel is left alone when its buffers, or those of a unix socket's reader, are full; longer each time in a row. */
const FULL_MS = 1;
const FULL_MOST_MS = 50;
/** Nothing to send for so long: its socket is closed. Receivers may come and go, and their addresses may change. */
const IDLE_MS = 60_000;

export type DatagramReceiver = { kind: "udp"; address: string; rate?: number | undefined } | { kind: "unix"; path: string };

/**
 * Datagrams to one receiver. To a unix socket they go as fast as its reader takes them, and wait where nobody reads. UDP has no
 * back-pressure and a receiver's buffer is small, so that they are paced, and held back where the receiver is on this host and its
 * buffer is full; what the kernel or the receiver's host refuses is counted.
 */
export class DatagramTransport implements Transport {
  readonly #receiver: DatagramReceiver;
  readonly #sockets: DatagramSockets;
  readonly #name: string;
  /** Undefined where the receiver itself holds back who writes. */
  readonly #perMs: number | undefined;
  #socket: DatagramSocket | undefined;
  #queue: Parcel[] = [];
  #running = false;
  readonly #idleMs: number;
  #idle: NodeJS.Timeout | undefined;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  /** Datagrams that may leave now, as of a moment. */
  #credit = BURST;
  #creditAt = performance.now();
  #most = BURST;
  #fullMs = FULL_MS;
  /** The receiver, or the kernel, takes no more just now. */
  #held = false;
  #progress = performance.now();
  problem: string | undefined;

  /** Throws when the receiver's address is none. */
  constructor(receiver: DatagramReceiver, sockets: DatagramSockets, idleMs = IDLE_MS) {
    this.#idleMs = idleMs;
    this.#receiver = receiver;
    this.#sockets = sockets;
    if (receiver.kind === "udp") splitAddress(receiver.address);
    this.#name = receiver.kind === "udp" ? `udp ${receiver.address}` : receiver.path;
    this.#perMs = receiver.kind === "udp" ? Math.max(0.001, (receiver.rate ?? DEFAULT_RATE) / 1000) : undefined;
  }

  get alive(): boolean {
    return this.#socket !== undefined || this.problem === undefined;
  }

  send(parcel: Parcel): void {
    this.#queue.push(parcel);
    if (!this.#running) void this.#run();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#idle);
    this.#closeSocket();
  }

  async #run(): Promise<void> {
    this.#running = true;
    clearTimeout(this.#idle);
    this.#progress = performance.now();
    while (this.#queue.length > 0 && !this.#closed) {
      this.#socket ??= await this.#open();
      if (this.#socket === undefined) {
        this.#forgetCancelled();
        await this.#pause(RETRY_MS);
        continue;
      }
      this.#earn();
      const sent = this.#burst(this.#socket, Math.floor(this.#credit));
      if (this.#perMs !== undefined) this.#credit -= sent;
      this.#fullMs = sent > 0 ? FULL_MS : Math.min(FULL_MOST_MS, this.#fullMs * 2);
      if (sent > 0) this.#progress = this.#creditAt;
      else if (this.#held && this.#creditAt - this.#progress > RETRY_MS) this.problem ??= `${this.#name}: its reader takes nothing more`;
      if (this.#socket.state === "away") this.#closeSocket();
      if (this.#held && sent === 0) this.#forgetCancelled();
      if (this.#held) await this.#pause(this.#fullMs);
      else if (this.#queue.length > 0 && this.#perMs !== undefined) await this.#pause(this.#untilNext(this.#perMs));
      else await new Promise((resolve) => setImmediate(resolve));
    }
    this.#running = false;
    if (!this.#closed) this.#idle = setTimeout(() => this.#rest(), this.#idleMs).unref();
  }

  #rest(): void {
    this.#closeSocket();
    this.problem = undefined;
  }

  /** What its sinks have given up would pile up behind a receiver that takes nothing. */
  #forgetCancelled(): void {
    if (this.#queue.some(({ cancelled }) => cancelled)) this.#queue = this.#queue.filter(({ cancelled }) => !cancelled);
  }

  #earn(): void {
    const now = performance.now();
    if (this.#perMs !== undefined) this.#credit = Math.min(this.#most, this.#credit + (now - this.#creditAt) * this.#perMs);
    this.#creditAt = now;
  }

  /** Until a burst may leave; where that takes long, until one datagram may. */
  #untilNext(perMs: number): number {
    return Math.max(1, (1 - this.#credit) / perMs, Math.min(BURST_MS, (this.#most - this.#credit) / perMs));
  }

  /** Sends at most so many datagrams; returns how many it were. */
  #burst(socket: DatagramSocket, most: number): number {
    let sent = 0;
    this.#held = false;
    while (sent < most && !this.#held) {
      const parcel = this.#queue[0];
      if (parcel === undefined) break;
      if (!parcel.cancelled) sent += this.#sendSome(socket, parcel, most - sent);
      if (parcel.cancelled || parcel.next >= parcel.ends.length) {
        this.#queue.shift();
        if (!parcel.cancelled) this.#done(socket, parcel);
      }
    }
    return sent;
  }

  #sendSome(socket: DatagramSocket, parcel: Parcel, most: number): number {
    const end = Math.min(parcel.ends.length, parcel.next + most);
    const room = socket.room(parcel.ends, parcel.next, end);
    this.#most = room === undefined ? BURST : BURST_WITH_ROOM;
    this.#held = room === 0;
    if (this.#held) return 0;
    const taken = socket.send(parcel.bytes, parcel.ends, parcel.next, room === undefined ? end : parcel.next + room);
    parcel.next += taken;
    this.#held = socket.state !== "ready";
    this.problem = socket.problem === undefined ? undefined : `${this.#name}: ${socket.problem}`;
    return taken;
  }

  #done(socket: DatagramSocket, parcel: Parcel): void {
    const refused = Math.min(socket.refused, parcel.ends.length);
    // The rest is told of those that follow: what was refused lay in parcels that are done.
    socket.refused -= refused;
    parcel.done(parcel.ends.length - refused, refused, REFUSED);
  }

  async #open(): Promise<DatagramSocket | undefined> {
    try {
      const socket = await this.#sockets.open(await this.#address());
      if (this.#closed) {
        socket.close();
        return undefined;
      }
      this.problem = undefined;
      this.#progress = performance.now();
      return socket;
    } catch (error) {
      this.problem = `${this.#name}: ${(error as Error).message}`;
      return undefined;
    }
  }

  async #address(): Promise<SocketAddress> {
    if (this.#receiver.kind === "unix") return { path: this.#receiver.path };
    const { host, port } = splitAddress(this.#receiver.address);
    const { address } = await lookup(host);
    return { family: isIPv6(address) ? 6 : 4, address, port };
  }

  #closeSocket(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#timer = setTimeout(resolve, ms);
    });
  }
}
