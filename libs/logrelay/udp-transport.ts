import { createSocket, type Socket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { isIPv6 } from "node:net";
import { type Parcel, RETRY_MS, splitAddress, type Transport } from "./transport.ts";

const DEFAULT_RATE = 100_000;
/** Datagrams in one go. A receiver's default buffer holds about 250 of our size. */
const BURST = 100;
const MAX_DATAGRAM = 65_507;

/**
 * Datagrams to one receiver, paced: UDP has no back-pressure, and a receiver's buffer is small. What does not fit a datagram and
 * what the kernel refuses is counted; a refusal by ICMP comes one send late, so that datagram is sent again.
 */
export class UdpTransport implements Transport {
  readonly #address: string;
  readonly #perMs: number;
  #socket: Socket | undefined;
  #queue: Parcel[] = [];
  #running = false;
  #closed = false;
  problem: string | undefined;
  #refused = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(address: string, rate = DEFAULT_RATE) {
    this.#address = address;
    this.#perMs = Math.max(0.001, rate / 1000);
    splitAddress(address);
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
    this.#socket?.close();
    this.#socket = undefined;
  }

  async #run(): Promise<void> {
    this.#running = true;
    let credit = BURST;
    let last = performance.now();
    while (this.#queue.length > 0 && !this.#closed) {
      this.#socket ??= await this.#open();
      if (this.#socket === undefined) {
        await this.#pause(RETRY_MS);
        continue;
      }
      const now = performance.now();
      credit = Math.min(Math.max(BURST, this.#perMs * 4), credit + (now - last) * this.#perMs);
      last = now;
      credit -= this.#burst(this.#socket, Math.floor(credit));
      if (this.#queue.length > 0) await this.#pause(Math.max(1, (1 - credit) / this.#perMs));
      else await new Promise((resolve) => setImmediate(resolve));
    }
    this.#running = false;
  }

  #burst(socket: Socket, credit: number): number {
    let sent = 0;
    while (sent < credit) {
      const parcel = this.#queue[0];
      if (parcel === undefined) break;
      if (!parcel.cancelled) sent += this.#sendSome(socket, parcel, credit - sent);
      if (parcel.cancelled || parcel.next >= parcel.ends.length) {
        this.#queue.shift();
        const refused = Math.min(this.#refused, parcel.next);
        this.#refused = 0;
        if (!parcel.cancelled) parcel.done(parcel.ends.length - refused, refused, "refused by the receiver");
      }
    }
    return sent;
  }

  #sendSome(socket: Socket, parcel: Parcel, most: number): number {
    const end = Math.min(parcel.ends.length, parcel.next + most);
    const from = parcel.next;
    for (; parcel.next < end; parcel.next++) {
      const start = parcel.next === 0 ? 0 : (parcel.ends[parcel.next - 1] as number);
      const length = Math.min((parcel.ends[parcel.next] as number) - start, MAX_DATAGRAM);
      if (parcel.next + 1 < end) socket.send(parcel.bytes, start, length);
      else socket.send(parcel.bytes, start, length, (error) => this.#sent(error));
    }
    return end - from;
  }

  #sent(error: Error | null): void {
    if (error === null) this.problem = undefined;
    else this.#failed(error);
  }

  #failed(error: Error): void {
    this.#refused += 1;
    this.problem = `udp ${this.#address}: ${(error as NodeJS.ErrnoException).code ?? error.message}`;
  }

  async #open(): Promise<Socket | undefined> {
    const { host, port } = splitAddress(this.#address);
    try {
      const { address } = await lookup(host);
      const socket = createSocket(isIPv6(address) ? "udp6" : "udp4");
      await new Promise<void>((resolve, reject) => {
        socket.once("error", reject);
        socket.connect(port, address, resolve);
      });
      socket.removeAllListeners("error");
      socket.on("error", (error) => this.#failed(error));
      socket.unref();
      if (this.#closed) {
        socket.close();
        return undefined;
      }
      this.problem = undefined;
      return socket;
    } catch (error) {
      this.problem = `udp ${this.#address}: ${(error as Error).message}`;
      return undefined;
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#timer = setTimeout(resolve, ms);
    });
  }
}
