import { endianness } from "node:os";
import { AF_INET, AF_INET6, AF_UNIX, type Libc, NONBLOCK_CLOEXEC, SOCK_DGRAM } from "./libc.ts";
import { ReceiverRoom } from "./receiver-room.ts";

/** A connected datagram socket. Each frame is one datagram, and they leave in order. */
export interface DatagramSocket {
  /**
   * Sends the frames `from` to `to` (exclusive) of one buffer; returns how many are dealt with: the kernel took them, or refused
   * them for good and they are in `refused`. Fewer than all: see `state`. Never throws, never waits.
   */
  send(bytes: Buffer, ends: readonly number[], from: number, to: number): number;
  /**
   * How many of these frames, at most, the receiver's buffer has room for now, carefully estimated; undefined where that is not
   * known: on another host.
   */
  room(ends: readonly number[], from: number, to: number): number | undefined;
  /** `full`: the kernel has no room just now. `away`: nobody listens, a new socket must be opened. */
  readonly state: "ready" | "full" | "away";
  /** The code of what went wrong in the last `send`; undefined when nothing did. */
  readonly problem: string | undefined;
  /** Frames that the kernel or the receiver's host refused; who counts some of them takes these off. */
  refused: number;
  close(): void;
}

export type SocketAddress = { family: 4 | 6; address: string; port: number } | { path: string };

/** The largest UDP datagram. */
export const MAX_DATAGRAM = 65_507;

const SOL_IP = 0;
const IP_MTU = 14;
const SOL_IPV6 = 41;
const IPV6_MTU = 24;
const SOL_UDP = 17;
const UDP_SEGMENT = 103;
const MSG_NOSIGNAL = 0x4000;

/** Messages in one call; each may be a run of datagrams. */
const MESSAGES = 64;
/** What one message may hold for the kernel to cut apart: every kernel takes this many segments, and this many bytes with headers. */
const SEGMENTS = 64;
const SEGMENTED_BYTES = 65_000;

/** What a datagram takes in a receiver's buffer beyond twice its length, at most. */
const DATAGRAM_COST = 1_280;

/** struct mmsghdr, struct iovec, and a control message with a 16-bit number in it; all pointers and lengths are 64 bits wide. */
const MMSGHDR = 64;
const IOVEC = 16;
const CONTROL = 24;
const IOVEC_AT = MESSAGES * MMSGHDR;
const CONTROL_AT = IOVEC_AT + MESSAGES * IOVEC;
const IOV_FIELD = 16;
const IOVLEN_FIELD = 24;
const CONTROL_FIELD = 32;
const CONTROLLEN_FIELD = 40;

const FULL = ["EAGAIN", "ENOBUFS", "ENOMEM"];
const AWAY = ["ECONNREFUSED", "ENOTCONN", "ENOENT", "ECONNRESET", "EPIPE"];
/** The way to the receiver has become narrower, or the device does not cut runs. */
const UNFIT = ["EINVAL", "EMSGSIZE", "EIO", "ENOPROTOOPT", "EOPNOTSUPP"];

/**
 * A datagram socket by the C library, because Node's costs a system call and much work per datagram, and Node has none for unix
 * sockets. One call takes up to 64 messages straight from the parcel's buffer; where frames in a row are equally long, one message
 * is a run of them that the kernel cuts apart again (UDP_SEGMENT), so that it walks the network stack once for all.
 */
export class NativeDatagramSocket implements DatagramSocket {
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #family: 4 | 6 | "unix";
  readonly #memory = Buffer.alloc(CONTROL_AT + MESSAGES * CONTROL);
  readonly #words = new Uint32Array(this.#memory.buffer, this.#memory.byteOffset, this.#memory.length / 4);
  readonly #address: number;
  /** The frame behind each message of a call. */
  readonly #until: number[] = new Array(MESSAGES).fill(0);
  /** The longest frame that may be part of a run; 0 when the kernel does not cut runs. */
  #longestSegment: number;
  readonly #room: ReceiverRoom | undefined;
  /** Frames in the last message that was sent: those a refusal that comes now is about. */
  #last = 0;
  #open = true;
  state: "ready" | "full" | "away" = "ready";
  problem: string | undefined;
  refused = 0;

  /** Throws, with the code of the kernel's refusal, when the socket cannot be opened or connected. */
  constructor(libc: Libc, to: SocketAddress) {
    this.#libc = libc;
    this.#family = "path" in to ? "unix" : to.family;
    const name = socketName(libc, to);
    this.#fd = libc.socket({ 4: AF_INET, 6: AF_INET6, unix: AF_UNIX }[this.#family], SOCK_DGRAM | NONBLOCK_CLOEXEC, 0);
    if (this.#fd < 0) throw failure(libc, "socket");
    if (libc.connect(this.#fd, name, name.length) < 0) {
      const error = failure(libc, "connect");
      this.close();
      throw error;
    }
    this.#address = libc.addressOf(this.#memory);
    // Asking for the option tells whether the kernel has it: one without would ignore it in a control message, and merge the run.
    this.#longestSegment = this.#option(SOL_UDP, UDP_SEGMENT) === undefined ? 0 : this.#fitting();
    this.#room = this.#family === "unix" ? undefined : ReceiverRoom.of(libc, this.#ownName(name.length), name);
    this.#layOut();
  }

  room(ends: readonly number[], from: number, to: number): number | undefined {
    const room = this.#room;
    if (room?.look() !== true) return undefined;
    const start = from === 0 ? 0 : (ends[from - 1] as number);
    let end = to;
    while (end > from && ((ends[end - 1] as number) - start) * 2 + (end - from) * DATAGRAM_COST > room.limit - room.used) end -= 1;
    // An empty buffer takes any one, however large.
    return end === from && room.used === 0 ? 1 : end - from;
  }

  send(bytes: Buffer, ends: readonly number[], from: number, to: number): number {
    const base = this.#libc.addressOf(bytes);
    this.state = "ready";
    this.problem = undefined;
    let next = from;
    // After a short answer the kernel keeps the reason to itself, unless it fails again.
    let short = false;
    let failed = false;
    while (next < to) {
      const count = this.#prepare(base, ends, next, to);
      const taken = this.#libc.sendmmsg(this.#fd, this.#address, count, MSG_NOSIGNAL);
      if (taken > 0) {
        if (short) this.#refuse(this.#last, "ECONNREFUSED");
        const last = taken === 1 ? next : (this.#until[taken - 2] as number);
        next = this.#until[taken - 1] as number;
        this.#last = next - last;
        short = taken < count && this.#family !== "unix";
        failed = false;
        continue;
      }
      const code = this.#libc.errorCode();
      short = false;
      if (code === "EINTR") continue;
      if (FULL.includes(code)) return this.#stopped("full", next - from, code);
      if (this.#family === "unix" && AWAY.includes(code)) return this.#stopped("away", next - from, code);
      const frames = (this.#until[0] as number) - next;
      const unfit = UNFIT.includes(code);
      if (!failed) {
        // Most likely what was said of an earlier datagram; this one was not sent yet.
        failed = true;
        if (unfit) this.#longestSegment = Math.min(this.#longestSegment, this.#fitting());
        else this.#refuse(code === "ECONNREFUSED" ? this.#last : 0, code);
      } else if (unfit && frames > 1) this.#longestSegment = 0;
      else {
        this.#refuse(frames, code);
        next = this.#until[0] as number;
      }
    }
    return to - from;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#libc.close(this.#fd);
    this.#room?.close();
  }

  #stopped(state: "full" | "away", sent: number, code: string): number {
    this.state = state;
    if (state === "away") this.problem = code;
    return sent;
  }

  #refuse(frames: number, code: string): void {
    this.refused += frames;
    this.#last = 0;
    this.problem = code;
  }

  /** What never changes: where each message's bytes and control message are described, and what the latter is. */
  #layOut(): void {
    const pointer = (at: number, target: number): void => void this.#memory.writeBigUInt64LE(BigInt(this.#address + target), at);
    for (let index = 0; index < MESSAGES; index++) {
      const header = index * MMSGHDR;
      const control = CONTROL_AT + index * CONTROL;
      pointer(header + IOV_FIELD, IOVEC_AT + index * IOVEC);
      this.#memory.writeUInt32LE(1, header + IOVLEN_FIELD);
      pointer(header + CONTROL_FIELD, control);
      this.#memory.writeUInt32LE(16 + 2, control);
      this.#memory.writeUInt32LE(SOL_UDP, control + 8);
      this.#memory.writeUInt32LE(UDP_SEGMENT, control + 12);
    }
  }

  /** Describes messages for the frames from `next` on; returns how many. A run is equally long frames and perhaps a shorter one. */
  #prepare(base: number, ends: readonly number[], next: number, to: number): number {
    const words = this.#words;
    let count = 0;
    let start = next === 0 ? 0 : (ends[next - 1] as number);
    let frame = next;
    while (frame < to && count < MESSAGES) {
      let end = ends[frame] as number;
      const length = end - start;
      const first = start;
      frame += 1;
      let segment = 0;
      if (length <= this.#longestSegment && length > 0) {
        const last = Math.min(to, frame + SEGMENTS - 1);
        while (frame < last) {
          const following = (ends[frame] as number) - end;
          if (following > length || following === 0 || end + following - first > SEGMENTED_BYTES) break;
          end += following;
          frame += 1;
          segment = length;
          if (following < length) break;
        }
      }
      const size = this.#family !== "unix" && segment === 0 && length > MAX_DATAGRAM ? MAX_DATAGRAM : end - first;
      const iovec = (IOVEC_AT + count * IOVEC) >> 2;
      const address = base + first;
      words[iovec] = address; // Kept modulo 2^32.
      words[iovec + 1] = address / 0x1_0000_0000;
      words[iovec + 2] = size;
      words[(count * MMSGHDR + CONTROLLEN_FIELD) >> 2] = segment === 0 ? 0 : CONTROL;
      words[(CONTROL_AT + count * CONTROL + 16) >> 2] = segment;
      this.#until[count] = frame;
      count += 1;
      start = end;
    }
    return count;
  }

  /** The longest datagram that goes to the receiver in one packet. A longer one must go alone, and the kernel makes fragments of it. */
  #fitting(): number {
    const mtu = this.#family === 6 ? this.#option(SOL_IPV6, IPV6_MTU) : this.#option(SOL_IP, IP_MTU);
    return Math.max(0, (mtu ?? 0) - (this.#family === 6 ? 48 : 28));
  }

  #ownName(size: number): Buffer {
    const name = Buffer.alloc(size);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(size);
    this.#libc.getsockname(this.#fd, name, length);
    return name;
  }

  #option(level: number, name: number): number | undefined {
    const value = Buffer.alloc(4);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(4);
    return this.#libc.getsockopt(this.#fd, level, name, value, length) < 0 ? undefined : value.readInt32LE();
  }
}

/** The receiver as the kernel reads it: sockaddr_in, sockaddr_in6 or sockaddr_un. */
function socketName(libc: Libc, to: SocketAddress): Buffer {
  if (endianness() !== "LE") throw new Error("datagram sockets are for little-endian machines");
  if ("path" in to) {
    const path = Buffer.from(to.path);
    if (path.length > 107) throw new Error("the path of a unix socket has at most 107 bytes");
    const name = Buffer.alloc(2 + path.length + 1);
    name.writeUInt16LE(AF_UNIX);
    path.copy(name, 2);
    return name;
  }
  const [address = "", zone] = to.address.split("%");
  const name = Buffer.alloc(to.family === 6 ? 28 : 16);
  name.writeUInt16LE(to.family === 6 ? AF_INET6 : AF_INET);
  name.writeUInt16BE(to.port, 2);
  const parsed = Buffer.alloc(16);
  if (libc.inet_pton(to.family === 6 ? AF_INET6 : AF_INET, address, parsed) !== 1) throw new Error(`${to.address} is no address`);
  parsed.copy(name, to.family === 6 ? 8 : 4, 0, to.family === 6 ? 16 : 4);
  if (to.family === 6 && zone !== undefined) name.writeUInt32LE(/^\d+$/.test(zone) ? Number(zone) : libc.if_nametoindex(zone), 24);
  return name;
}

function failure(libc: Libc, call: string): Error {
  const code = libc.errorCode();
  return Object.assign(new Error(`${call}: ${code}`), { code });
}
