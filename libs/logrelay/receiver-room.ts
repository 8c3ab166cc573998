import { AF_INET, AF_INET6, type Libc, NONBLOCK_CLOEXEC, SOCK_RAW } from "./libc.ts";

const AF_NETLINK = 16;
const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
const NLM_F_REQUEST = 1;
const IPPROTO_UDP = 17;
const INET_DIAG_SKMEMINFO = 7;

const NLMSGHDR = 16;
const INET_DIAG_REQ = 56;
const INET_DIAG_MSG = 72;
/** In both structures of the protocol: ports, then addresses. */
const SOCKID_IN_REQ = NLMSGHDR + 8;

/**
 * How full the buffer of a UDP receiver on this host is. The kernel tells it of the socket that a datagram from here would come to
 * (sock_diag), so that a receiver that has no time loses nothing: UDP itself holds back nobody.
 */
export class ReceiverRoom {
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #request: Buffer;
  readonly #answer = Buffer.alloc(1024);
  /** Bytes in the receiver's buffer, in the kernel's count, which is several times what was sent. */
  used = 0;
  /** What is over it is lost; `used` may go beyond by one datagram. */
  limit = 0;

  private constructor(libc: Libc, fd: number, request: Buffer) {
    this.#libc = libc;
    this.#fd = fd;
    this.#request = request;
  }

  /** For a connected UDP socket, by its own and its receiver's socket address; undefined where the receiver is not on this host. */
  static of(libc: Libc, own: Buffer, receiver: Buffer): ReceiverRoom | undefined {
    const family = receiver.readUInt16LE();
    const [from, to] = family === AF_INET6 ? [8, 24] : [4, 8];
    const local = family === AF_INET && receiver[4] === 127;
    if (!local && !own.subarray(from, to).equals(receiver.subarray(from, to))) return undefined;
    const fd = libc.socket(AF_NETLINK, SOCK_RAW | NONBLOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd < 0) return undefined;
    const request = Buffer.alloc(NLMSGHDR + INET_DIAG_REQ);
    request.writeUInt32LE(request.length, 0);
    request.writeUInt16LE(SOCK_DIAG_BY_FAMILY, 4);
    request.writeUInt16LE(NLM_F_REQUEST, 6);
    request[NLMSGHDR] = family === AF_INET6 ? AF_INET6 : AF_INET;
    request[NLMSGHDR + 1] = IPPROTO_UDP;
    request[NLMSGHDR + 2] = 1 << (INET_DIAG_SKMEMINFO - 1);
    request.fill(0xff, NLMSGHDR + 4, SOCKID_IN_REQ);
    own.copy(request, SOCKID_IN_REQ, 2, 4);
    receiver.copy(request, SOCKID_IN_REQ + 2, 2, 4);
    own.copy(request, SOCKID_IN_REQ + 4, from, to);
    receiver.copy(request, SOCKID_IN_REQ + 20, from, to);
    // No cookie: whichever socket it is.
    request.fill(0xff, SOCKID_IN_REQ + 40);
    return new ReceiverRoom(libc, fd, request);
  }

  /** Brings `used` and `limit` up to date; false where the kernel does not tell, as nobody receives. */
  look(): boolean {
    if (this.#libc.send(this.#fd, this.#request, this.#request.length, 0) < 0) return false;
    const answer = this.#answer;
    const length = this.#libc.recv(this.#fd, answer, answer.length, 0);
    if (length < NLMSGHDR || answer.readUInt16LE(4) !== SOCK_DIAG_BY_FAMILY) return false;
    for (let at = NLMSGHDR + INET_DIAG_MSG; at + 12 <= length; ) {
      const size = answer.readUInt16LE(at);
      if (answer.readUInt16LE(at + 2) === INET_DIAG_SKMEMINFO) {
        this.used = answer.readUInt32LE(at + 4);
        this.limit = answer.readUInt32LE(at + 8);
        return true;
      }
      at += Math.max(4, (size + 3) & ~3);
    }
    return false;
  }

  close(): void {
    this.#libc.close(this.#fd);
  }
}
