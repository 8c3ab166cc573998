import { rmSync } from "node:fs";

/** Who listens on a unix datagram socket, as syslogd does on /dev/log. Node has no such sockets. */
export interface UnixReceiver {
  /** The next datagram; undefined when none waits. */
  receive(): Buffer | undefined;
  /** Stops listening; the file stays, as with a syslogd that was killed. */
  close(): void;
}

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const MSG_DONTWAIT = 0x40;

/** Listens on `path`, in place of what was there. How many datagrams may wait is the kernel's net.unix.max_dgram_qlen. */
export async function bindUnix(path: string): Promise<UnixReceiver> {
  // Loaded by the few that need it.
  const { default: koffi } = await import("koffi");
  const library = koffi.load(null);
  const fd = library.func("int socket(int domain, int type, int protocol)")(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0) as number;
  const name = Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(`${path}\0`)]);
  rmSync(path, { force: true });
  if (library.func("int bind(int fd, void *name, uint32 length)")(fd, name, name.length) !== 0) {
    throw new Error(`cannot listen on ${path}: errno ${koffi.errno()}`);
  }
  const recv = library.func("int64 recv(int fd, void *into, uint64 length, int flags)");
  const close = library.func("int close(int fd)");
  const into = Buffer.alloc(256 * 1024);
  return {
    receive: () => {
      const length = Number(recv(fd, into, into.length, MSG_DONTWAIT));
      return length < 0 ? undefined : Buffer.from(into.subarray(0, length));
    },
    close: () => void close(fd),
  };
}
