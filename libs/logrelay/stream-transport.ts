import { connect, type Socket } from "node:net";
import { ResendWindow } from "./resend-window.ts";
import { connectTls, tlsProblem } from "./tls-connection.ts";
import { type Parcel, REFUSED, RETRY_MS, splitAddress, type Transport } from "./transport.ts";
import type { TlsOptions } from "./types.ts";

const CONNECT_MS = 10_000;
const KEEP_ALIVE_MS = 30_000;
/** A receiver that takes nothing for this long is taken for dead and connected again. */
const SILENT_MS = 30_000;
/** The same where others take its lines. */
const SILENT_BESIDE_OTHERS_MS = 3_000;
/** Bytes handed to the socket and not taken by the kernel yet. */
const IN_FLIGHT = 256 * 1024;
/** A receiver that broke sooner than this must hold a connection for as long before it gets anything new. */
const PROOF_MS = 1_000;
/**
 * What was sent so often goes only to a receiver that has held the connection for a moment: then it is not merely away. What was sent
 * this often, and broke each connection, is what the receiver does not bear, and would keep everything else from it.
 */
const CAREFUL_TRIES = 3;
const MOST_TRIES = 6;
const FIRST_DELAY_MS = 100;
const LAST_DELAY_MS = 5 * RETRY_MS;
/** Errors after which the kernel may have held unacknowledged bytes for long. */
const UNREACHED = new Set(["ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "EHOSTDOWN"]);

/** The receivers that a connection belongs to, where there are several for the same lines. */
export interface StreamGroup {
  /** What a broken connection had not delivered for certain, in order: another receiver gets it. */
  returned(parcels: Parcel[]): void;
  /** There is room, or a receiver that was away may be tried again. */
  ready(): void;
  /** Whether another receiver takes lines just now. */
  othersTake(asking: StreamTransport): boolean;
}

export interface StreamOptions {
  tls?: TlsOptions;
  /** How long a connection may take to open, TLS included. Milliseconds, default 10 s. */
  connectMs?: number;
  /** Milliseconds of silence before TCP asks whether the other side is there. Default 30 s. */
  keepAliveMs?: number;
  group?: StreamGroup;
}

/**
 * One TCP or TLS connection to one receiver, opened again for as long as it is needed.
 *
 * A parcel is delivered when the kernel took it. What the kernel took lately is kept: when the connection breaks it is sent again,
 * before all else, so that a line may come twice but is not lost. Fresh parcels wait until a receiver that keeps breaking holds still.
 */
export class StreamTransport implements Transport {
  readonly #address: string;
  readonly #options: StreamOptions;
  #socket: Socket | undefined;
  #opening = false;
  #connectedAt: number | undefined;
  #unproven = false;
  /** Sent before, and to be sent again. */
  #again: Parcel[] = [];
  #queue: Parcel[] = [];
  #inFlight: Parcel[] = [];
  #inFlightBytes = 0;
  readonly #delivered = new ResendWindow();
  #progressAt = 0;
  #closed = false;
  #retry: NodeJS.Timeout | undefined;
  #proof: NodeJS.Timeout | undefined;
  #calm: NodeJS.Timeout | undefined;
  #stall: NodeJS.Timeout | undefined;
  #delay = FIRST_DELAY_MS;
  problem: string | undefined;

  constructor(address: string, options: StreamOptions = {}) {
    this.#address = address;
    this.#options = options;
    splitAddress(address);
  }

  get alive(): boolean {
    return this.problem === undefined;
  }

  /** Whether it would hand a parcel to the kernel at once. */
  get takes(): boolean {
    return this.#connectedAt !== undefined && !this.#unproven && this.#inFlightBytes < IN_FLIGHT && this.#queue.length === 0;
  }

  send(parcel: Parcel): void {
    this.#queue.push(parcel);
    if (this.#connectedAt !== undefined) this.#flush();
    else this.open();
  }

  /** Connects, unless that is under way or was tried a moment ago. */
  open(): void {
    if (this.#socket !== undefined || this.#opening || this.#retry !== undefined || this.#closed) return;
    this.#opening = true;
    void this.#connect().then(
      (socket) => this.#use(socket),
      (error: Error) => this.#lost(error),
    );
  }

  /** Ends the connection when the kernel has what was handed to it. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    clearTimeout(this.#proof);
    clearTimeout(this.#calm);
    this.#socket?.destroySoon();
  }

  async #connect(): Promise<Socket> {
    const { host, port } = splitAddress(this.#address);
    const keepAlive = { keepAlive: true, keepAliveInitialDelay: this.#options.keepAliveMs ?? KEEP_ALIVE_MS };
    if (this.#options.tls === undefined) return connect({ host, port, ...keepAlive });
    return await connectTls({ host, port, ...keepAlive }, this.#options.tls);
  }

  #use(socket: Socket): void {
    this.#opening = false;
    this.#socket = socket;
    let reason: Error | undefined;
    socket.setTimeout(this.#options.connectMs ?? CONNECT_MS, () => socket.destroy(new Error("no answer in time")));
    socket.once(this.#options.tls === undefined ? "connect" : "secureConnect", () => {
      socket.setTimeout(0);
      socket.unref();
      this.#connectedAt = performance.now();
      if (this.#unproven) this.#proof = setTimeout(() => this.#proven(), PROOF_MS).unref();
      else this.problem = undefined;
      this.#flush();
    });
    socket.on("data", () => {}); // Read, so that the receiver's end is noticed.
    socket.on("error", (error) => {
      reason ??= error;
    });
    socket.on("close", () => {
      if (this.#socket === socket) this.#lost(reason ?? new Error("the receiver closed the connection"));
    });
    if (this.#closed) socket.destroySoon();
  }

  #proven(): void {
    this.#unproven = false;
    this.problem = undefined;
    this.#delay = FIRST_DELAY_MS;
    this.#flush();
  }

  #flush(): void {
    const socket = this.#socket;
    if (socket === undefined || this.#connectedAt === undefined) return;
    while (this.#inFlightBytes < IN_FLIGHT) {
      if (this.#mustBeCalm(this.#connectedAt)) return;
      const parcel = this.#again.shift() ?? (this.#unproven ? undefined : this.#queue.shift());
      if (parcel === undefined) break;
      if (!parcel.cancelled) this.#write(socket, parcel);
    }
    if (this.takes) this.#options.group?.ready();
  }

  /** The next parcel is one that may have broken connections, and this one is too young to tell whether it was that. */
  #mustBeCalm(connectedAt: number): boolean {
    const rest = connectedAt + PROOF_MS - performance.now();
    if ((this.#again[0]?.tries ?? 0) < CAREFUL_TRIES || rest <= 0) return false;
    clearTimeout(this.#calm);
    this.#calm = setTimeout(() => this.#flush(), rest + 1).unref();
    return true;
  }

  #write(socket: Socket, parcel: Parcel): void {
    parcel.tries = (parcel.tries ?? 0) + 1;
    if (this.#inFlight.length === 0) {
      this.#progressAt = performance.now();
      this.#watch(socket);
    }
    this.#inFlight.push(parcel);
    this.#inFlightBytes += parcel.bytes.length;
    socket.write(parcel.bytes, (error) => {
      if (error || this.#socket !== socket || this.#inFlight[0] !== parcel) return;
      this.#inFlight.shift();
      this.#inFlightBytes -= parcel.bytes.length;
      this.#progressAt = performance.now();
      this.#delivered.keep(parcel, this.#progressAt);
      if (this.#inFlight.length === 0) clearTimeout(this.#stall);
      if (!parcel.cancelled) parcel.done(parcel.ends.length, 0, "");
      this.#flush();
    });
  }

  /** While something is in flight: breaks a connection that takes nothing for too long. */
  #watch(socket: Socket): void {
    const look = this.#options.group === undefined ? SILENT_MS : SILENT_BESIDE_OTHERS_MS;
    clearTimeout(this.#stall);
    this.#stall = setTimeout(() => {
      if (this.#socket !== socket || this.#inFlight.length === 0) return;
      const patience = this.#options.group?.othersTake(this) === true ? SILENT_BESIDE_OTHERS_MS : SILENT_MS;
      const silent = performance.now() - this.#progressAt;
      if (silent < patience - 10) return this.#watch(socket);
      const error = new Error(`the receiver took nothing for ${Math.round(silent / 1000)} s`);
      // A reset throws away what the kernel still holds: it would come twice.
      if (this.#options.tls === undefined) socket.resetAndDestroy();
      this.#lost(error, true);
    }, look).unref();
  }

  #lost(error: Error, silent = false): void {
    const now = performance.now();
    const lived = this.#connectedAt === undefined ? undefined : now - this.#connectedAt;
    const again = this.#undelivered(now, silent || UNREACHED.has((error as NodeJS.ErrnoException).code ?? ""));
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#opening = false;
    this.#connectedAt = undefined;
    clearTimeout(this.#proof);
    clearTimeout(this.#calm);
    clearTimeout(this.#stall);
    if (lived !== undefined && lived < PROOF_MS) this.#unproven = true;
    if (lived !== undefined && lived >= LAST_DELAY_MS) this.#delay = FIRST_DELAY_MS;
    this.problem = this.#describe(error, lived !== undefined && lived < PROOF_MS);
    if (!this.#closed) this.#retryLater(silent);
    this.#putBack(again);
  }

  #describe(error: Error, early: boolean): string {
    const { tls } = this.#options;
    if (tls === undefined) return `tcp ${this.#address}: ${error.message}`;
    return `tls ${this.#address}: ${tlsProblem(error, tls, splitAddress(this.#address).host, early)}`;
  }

  #retryLater(silent: boolean): void {
    // It would take the kernel's buffers full of lines again, and keep them as long.
    const delay = silent && this.#options.group !== undefined ? SILENT_MS : this.#delay;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      if (this.#again.length + this.#queue.length > 0) this.open();
      else this.#options.group?.ready();
    }, delay).unref();
    this.#delay = Math.min(this.#delay * 2, LAST_DELAY_MS);
  }

  /** What may not have arrived: what the kernel took in the moment before the break, or before it took no more, and what is in flight. */
  #undelivered(now: number, silent: boolean): Parcel[] {
    const until = this.#inFlight.length > 0 ? this.#progressAt : now;
    const open = this.#inFlight.filter(({ cancelled }) => !cancelled);
    const delivered = this.#delivered.take(silent ? undefined : until);
    const spent = ({ tries = 0 }: Parcel): boolean => !silent && tries >= MOST_TRIES;
    for (const parcel of delivered.filter(spent)) parcel.refused?.(parcel.ends.length);
    for (const parcel of open.filter(spent)) parcel.done(0, parcel.ends.length, REFUSED);
    const parcels = [...delivered, ...open].filter((parcel) => !spent(parcel));
    for (const parcel of parcels) parcel.resent?.(parcel.ends.length);
    this.#inFlight = [];
    this.#inFlightBytes = 0;
    return parcels;
  }

  #putBack(again: Parcel[]): void {
    const { group } = this.#options;
    // Those that their sinks have given up would fill the memory while the receiver is away.
    this.#again = [...again, ...this.#again].filter(({ cancelled }) => !cancelled);
    this.#queue = this.#queue.filter(({ cancelled }) => !cancelled);
    if (group === undefined) return;
    const parcels = [...this.#again, ...this.#queue];
    this.#again = [];
    this.#queue = [];
    group.returned(parcels);
  }
}
