import type { StreamGroup, StreamTransport } from "./stream-transport.ts";
import { type Parcel, splitAddress, type Transport } from "./transport.ts";

/** Addresses that may change. */
export interface AddressList {
  /** Those of now. Asking keeps them fresh. */
  addresses(): readonly string[];
  /** Why there are none, while there are none. */
  readonly problem: string | undefined;
  close(): void;
}

/**
 * Several TCP receivers of the same lines: each parcel goes to the next one that takes it. What one of them had not got when its
 * connection broke goes to another; while none is there it waits here. One that comes back gets its share again.
 */
export class StreamRing implements Transport, StreamGroup {
  readonly #list: AddressList;
  readonly #open: (address: string, group: StreamGroup) => StreamTransport;
  readonly #members = new Map<string, StreamTransport>();
  #known: readonly string[] = [];
  #queue: Parcel[] = [];
  #turn = 0;
  #flushing = false;
  #closed = false;

  constructor(list: AddressList, open: (address: string, group: StreamGroup) => StreamTransport) {
    this.#list = list;
    this.#open = open;
  }

  get problem(): string | undefined {
    const members = [...this.#members.values()];
    if (members.length === 0) return this.#list.problem;
    const away = members.flatMap(({ problem }) => (problem === undefined ? [] : [problem]));
    if (away.length === 0) return undefined;
    const rest = members.length - away.length;
    return `${away.join("; ")}${rest === 0 ? "" : ` (${rest} other${rest === 1 ? " takes" : "s take"} its lines)`}`;
  }

  get alive(): boolean {
    const members = [...this.#members.values()];
    return members.length === 0 ? this.#list.problem === undefined : members.some(({ alive }) => alive);
  }

  send(parcel: Parcel): void {
    this.#queue.push(parcel);
    this.ready();
  }

  returned(parcels: Parcel[]): void {
    this.#queue = [...parcels, ...this.#queue];
    this.ready();
  }

  othersTake(asking: StreamTransport): boolean {
    return [...this.#members.values()].some((member) => member !== asking && member.takes);
  }

  ready(): void {
    // A member may answer to what it is given at once.
    if (this.#flushing || this.#closed) return;
    this.#flushing = true;
    try {
      this.#queue = this.#queue.filter(({ cancelled }) => !cancelled);
      if (this.#queue.length > 0) this.#distribute();
    } finally {
      this.#flushing = false;
    }
  }

  close(): void {
    this.#closed = true;
    this.#list.close();
    for (const member of this.#members.values()) member.close();
  }

  #distribute(): void {
    this.#follow(this.#list.addresses());
    const members = [...this.#members.values()];
    for (const member of members) member.open();
    for (let parcel = this.#queue[0]; parcel !== undefined; parcel = this.#queue[0]) {
      const next = this.#next(members);
      if (next === undefined) return;
      this.#queue.shift();
      next.send(parcel);
    }
  }

  #next(members: readonly StreamTransport[]): StreamTransport | undefined {
    for (let tried = 0; tried < members.length; tried++) {
      const member = members[this.#turn++ % members.length];
      if (member?.takes === true) return member;
    }
    return undefined;
  }

  /** Opens what is new, and lets what is gone finish what it has. */
  #follow(addresses: readonly string[]): void {
    if (addresses === this.#known) return;
    this.#known = addresses;
    for (const [address, member] of this.#members) {
      if (addresses.includes(address)) continue;
      this.#members.delete(address);
      member.close();
    }
    for (const address of addresses) if (!this.#members.has(address)) this.#members.set(address, this.#open(address, this));
  }
}

/** Several UDP receivers of the same lines: each parcel goes to the next one without a problem; one with a problem is tried now and then. */
export class DatagramRing implements Transport {
  readonly #list: AddressList;
  readonly #transportTo: (address: string) => Transport;
  readonly #triedAt = new Map<Transport, number>();
  #waiting: Parcel[] = [];
  #last: readonly Transport[] = [];
  #turn = 0;

  constructor(list: AddressList, transportTo: (address: string) => Transport) {
    this.#list = list;
    this.#transportTo = transportTo;
  }

  get problem(): string | undefined {
    if (this.#last.length === 0) return this.#list.problem;
    return this.#last.find(({ problem }) => problem !== undefined)?.problem;
  }

  get alive(): boolean {
    return this.#last.length === 0 ? this.#list.problem === undefined : this.#last.some(({ alive }) => alive);
  }

  send(parcel: Parcel): void {
    this.#waiting.push(parcel);
    this.ready();
  }

  /** Sends what waited for a first address. */
  ready(): void {
    this.#waiting = this.#waiting.filter(({ cancelled }) => !cancelled);
    if (this.#waiting.length === 0) return;
    const transports = this.#list.addresses().map(this.#transportTo);
    this.#last = transports;
    if (transports.length > 0) for (const parcel of this.#waiting.splice(0)) this.#next(transports).send(parcel);
  }

  close(): void {
    this.#list.close();
  }

  #next(transports: readonly Transport[]): Transport {
    const now = performance.now();
    let next = transports[this.#turn++ % transports.length] as Transport;
    for (let tried = 1; tried < transports.length && this.#isAway(next, now); tried++) {
      next = transports[this.#turn++ % transports.length] as Transport;
    }
    if (next.problem !== undefined) this.#triedAt.set(next, now);
    return next;
  }

  #isAway(transport: Transport, now: number): boolean {
    return transport.problem !== undefined && now - (this.#triedAt.get(transport) ?? Number.NEGATIVE_INFINITY) < PROBE_MS;
  }
}

/** How often a UDP receiver that refused is tried with a real parcel: nothing else tells whether it is back. */
const PROBE_MS = 5_000;

/** Addresses that are written down. */
export function fixedAddresses(addresses: readonly string[]): AddressList {
  for (const address of addresses) splitAddress(address);
  return { addresses: () => addresses, problem: undefined, close: () => {} };
}
