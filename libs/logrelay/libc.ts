import { getSystemErrorName } from "node:util";

/**
 * The calls of the C library that datagram sockets need, each as in its manual page. Structures and where they lie in memory are
 * the caller's affair, so that a call costs a fifth of a microsecond; memory is named by a Buffer or, where it lies, by `addressOf`.
 */
export interface Libc {
  socket(domain: number, type: number, protocol: number): number;
  connect(fd: number, address: Buffer, length: number): number;
  getsockopt(fd: number, level: number, name: number, value: Buffer, length: Buffer): number;
  getsockname(fd: number, address: Buffer, length: Buffer): number;
  send(fd: number, bytes: Buffer, length: number, flags: number): number;
  recv(fd: number, into: Buffer, length: number, flags: number): number;
  sendmmsg(fd: number, messages: number, count: number, flags: number): number;
  inet_pton(family: number, text: string, into: Buffer): number;
  if_nametoindex(name: string): number;
  close(fd: number): number;
  /** Valid while the Buffer is reachable: what it views does not move. */
  addressOf(bytes: Buffer): number;
  /** Why the last call failed: "ECONNREFUSED". */
  errorCode(): string;
}

/** Of the kernel's headers, the same on every architecture of ours. */
export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
/** SOCK_NONBLOCK and SOCK_CLOEXEC. */
export const NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;

/** Where structures look as datagram-socket.ts writes them. */
const ARCHITECTURES = ["x64", "arm64"];

/** Throws where there is no way to call the C library: another platform than 64-bit Linux, or koffi has no binary for it. */
export async function loadLibc(): Promise<Libc> {
  if (process.platform !== "linux" || !ARCHITECTURES.includes(process.arch)) {
    throw new Error(`no datagram sockets of our own on ${process.platform} ${process.arch}`);
  }
  // Loaded by those that need it: it costs memory.
  const { default: koffi } = await import("koffi");
  const library = koffi.load(null);
  const call = <Call>(definition: string): Call => library.func(definition) as Call;
  return {
    socket: call<Libc["socket"]>("int socket(int domain, int type, int protocol)"),
    connect: call<Libc["connect"]>("int connect(int fd, void *address, uint32 length)"),
    getsockopt: call<Libc["getsockopt"]>("int getsockopt(int fd, int level, int name, void *value, void *length)"),
    getsockname: call<Libc["getsockname"]>("int getsockname(int fd, void *address, void *length)"),
    send: call<Libc["send"]>("long send(int fd, const void *bytes, size_t length, int flags)"),
    recv: call<Libc["recv"]>("long recv(int fd, void *into, size_t length, int flags)"),
    sendmmsg: call<Libc["sendmmsg"]>("int sendmmsg(int fd, uint64 messages, uint32 count, int flags)"),
    inet_pton: call<Libc["inet_pton"]>("int inet_pton(int family, const char *text, void *into)"),
    if_nametoindex: call<Libc["if_nametoindex"]>("uint32 if_nametoindex(const char *name)"),
    close: call<Libc["close"]>("int close(int fd)"),
    // Addresses have at most 57 bits, those of user space in use 47: exact in a number.
    addressOf: (bytes) => Number(koffi.address(bytes)),
    errorCode: () => getSystemErrorName(-koffi.errno()),
  };
}
