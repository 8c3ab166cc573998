/** A shared way to one receiver. Messages leave in the order in which they were given. */
export interface Transport {
  /** Hands over frames; `done` says how many were delivered and why the others were not. */
  send(parcel: Parcel): void;
  /** Undefined while all is well. */
  readonly problem: string | undefined;
  /** False while there is no use in waiting for it. */
  readonly alive: boolean;
  close(): void;
}

/** Frames of one sink's batch on their way. */
export interface Parcel {
  bytes: Buffer;
  ends: number[];
  /** Index of the first frame that is not delivered yet; the transport counts it up. */
  next: number;
  /** The sink has given up on it: the transport throws it away. */
  cancelled: boolean;
  done(delivered: number, lost: number, reason: string): void;
  /** So many frames go out once more, because a connection broke and nobody knows whether they had arrived. */
  resent?(frames: number): void;
  /** So many frames that were counted as delivered are given up: the receiver breaks each connection that brings them. */
  refused?(frames: number): void;
  /** How often it was sent. */
  tries?: number;
}

export function splitAddress(address: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (match === null || !(port > 0 && port < 65536)) throw new Error(`"${address}" is no host:port`);
  return { host: (match[1] ?? match[2]) as string, port };
}

/** How long a failed receiver is left alone. */
export const RETRY_MS = 1_000;

/** Why lines are lost that a receiver does not take. */
export const REFUSED = "refused by the receiver";
