import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmdirSync,
  writeFileSync,
} from "node:fs";
import { connect, type Socket } from "node:net";
import type { Connection, ConnectionHandlers, DescriptorInfo, Host, TlsOptions } from "../core/host.ts";
import { eraseFromProc } from "./erase-environment.ts";
import { OwnDescriptors } from "./own-descriptors.ts";
import { type ChildOutputs, spawnChild } from "./spawn.ts";

/** What is still queued when the worker ends gets this long to be written, milliseconds. */
const DRAIN_MS = 2000;
const DRAIN_LOOK_MS = 5;
/** When a silent connection is first probed; the system waits for two hours. */
const KEEP_ALIVE_MS = 60_000;
/** sockaddr_un holds 108 bytes with the closing zero; Node would cut a longer path silently. */
const MAX_UNIX_PATH_BYTES = 107;

/** The worker's host on Node. Modules that few workers need (TLS) are loaded when they are. */
export function nodeHost(): Host {
  const sockets = new Set<Socket>();
  const timers = new Map<number, NodeJS.Timeout>();
  const outputs: ChildOutputs = { pipes: new Set(), read: true };
  const own = new OwnDescriptors();
  let nextTimer = 1;
  let exiting = false;

  return {
    connectUnix: (path, handlers) => {
      if (Buffer.byteLength(path) > MAX_UNIX_PATH_BYTES) return failedConnection(handlers, "ENAMETOOLONG");
      return wrap(connect(path), "connect", handlers, sockets);
    },
    connectTcp: (address, port, handlers) =>
      wrap(connect({ host: address, port, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS }), "connect", handlers, sockets),
    connectTls: (address, port, options, handlers) => connectTls(address, port, options, handlers, sockets),

    setTimer: (delayMs, callback) => {
      const id = nextTimer++;
      timers.set(
        id,
        setTimeout(
          () => {
            timers.delete(id);
            callback();
          },
          Math.min(delayMs, 2 ** 31 - 1),
        ),
      );
      return id;
    },
    clearTimer: (id) => {
      clearTimeout(timers.get(id));
      timers.delete(id);
    },
    wallClock: () => Date.now(),
    // Not performance.now() and not crypto: Node loads a good part of itself for either, in every worker.
    monotonicClock: () => Number(process.hrtime.bigint()) / 1e6,

    spawn: (options, handlers) => spawnChild(options, handlers, outputs),
    readChildren: (read) => {
      outputs.read = read;
      for (const pipe of outputs.pipes) read ? pipe.resume() : pipe.pause();
    },
    kill: (pid, signal) => {
      try {
        return process.kill(pid, signal);
      } catch {
        return false;
      }
    },
    onSignal: (callback) => {
      process.on("SIGTERM", () => callback(15));
      process.on("SIGINT", () => callback(2));
    },

    pid: () => process.pid,
    arguments: () => process.argv.slice(2),
    environment: () => process.env as Record<string, string>,
    eraseEnvironment: (name) => {
      delete process.env[name];
      eraseFromProc(name);
    },
    setTitle: (text) => {
      process.title = text;
    },
    descriptor: describeDescriptor,
    writeDescriptor: (fd, bytes) => own.write(fd, bytes),

    readTextFile: (path) => orNull(() => readFileSync(path, "utf8")),
    writeTextFile: (path, text) => orNull(() => writeFileSync(path, text, { flag: "r+" })) !== null,
    listDirectory: (path) => orNull(() => readdirSync(path)) ?? [],
    makeDirectory: (path) => existsSync(path) || orNull(() => mkdirSync(path)) !== null,
    removeDirectory: (path) => orNull(() => rmdirSync(path)) !== null,
    readLink: (path) => orNull(() => readlinkSync(path)),

    encodeUtf8: (text) => Buffer.from(text),
    decodeUtf8: (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("utf8"),
    encodeBase64: (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64"),
    decodeBase64: (text) => Buffer.from(text, "base64"),
    randomBytes: kernelRandom(),

    exit: (code) => {
      // Its own end of the connections may be answered by another reason to exit; the first one counts.
      if (exiting) return;
      exiting = true;
      const waiting = (): boolean => own.busy || [...sockets].some((socket) => socket.writableLength > 0);
      const end = (): void => {
        // With a thread that is stuck in a write an orderly exit would wait for ever.
        if (own.busy) process.kill(process.pid, "SIGKILL");
        process.exit(code);
      };
      if (!waiting()) return end();
      for (const socket of sockets) socket.end();
      setInterval(() => waiting() || end(), DRAIN_LOOK_MS);
      setTimeout(end, DRAIN_MS);
    },
  };
}

function wrap(socket: Socket, openEvent: "connect" | "secureConnect", handlers: ConnectionHandlers, sockets: Set<Socket>): Connection {
  let closed = false;
  let failure: string | null = null;
  sockets.add(socket);
  socket.on(openEvent, () => handlers.open());
  socket.on("data", (bytes: Buffer) => {
    if (!closed) handlers.data(new Uint8Array(bytes));
  });
  socket.on("error", (error: NodeJS.ErrnoException) => {
    failure = error.code ?? error.message;
  });
  socket.on("close", () => {
    sockets.delete(socket);
    if (!closed) handlers.close(failure);
    closed = true;
  });
  return {
    write: (bytes) => {
      if (!closed) socket.write(bytes);
    },
    close: () => {
      closed = true;
      // What is queued may be lost, but not silently by us: an orderly end lets the kernel send it.
      socket.destroySoon();
    },
  };
}

function failedConnection(handlers: ConnectionHandlers, error: string): Connection {
  setImmediate(() => handlers.close(error));
  return { write: () => {}, close: () => {} };
}

/** The tls module costs memory in every worker that loads it, so only those with a TLS agent do. */
function connectTls(address: string, port: number, options: TlsOptions, handlers: ConnectionHandlers, sockets: Set<Socket>): Connection {
  let real: Connection | undefined;
  let closed = false;
  void import("node:tls").then(({ connect: connectSecure }) => {
    if (closed) return;
    const socket = connectSecure({
      host: address,
      port,
      rejectUnauthorized: options.verify,
      ...(options.ca === undefined ? {} : { ca: options.ca }),
    });
    socket.setKeepAlive(true);
    real = wrap(socket, "secureConnect", handlers, sockets);
  });
  return {
    write: (bytes) => real?.write(bytes),
    close: () => {
      closed = true;
      real?.close();
    },
  };
}

function describeDescriptor(fd: 1 | 2): DescriptorInfo {
  try {
    const stat = fstatSync(fd, { bigint: true });
    const kind = stat.isFile() ? "file" : stat.isFIFO() || stat.isSocket() ? "pipe" : "other";
    return { kind, device: String(stat.dev), inode: String(stat.ino) };
  } catch {
    return { kind: "other", device: "", inode: "" };
  }
}

/** From the kernel, a pool at a time: one byte is asked for at each retry, sixteen for each update. */
function kernelRandom(): (count: number) => Uint8Array {
  const pool = new Uint8Array(1024);
  let left = 0;
  return (count) => {
    if (left < count) {
      const file = openSync("/dev/urandom", "r");
      left = readSync(file, pool);
      closeSync(file);
    }
    left -= count;
    return pool.slice(left, left + count);
  };
}

function orNull<Value>(read: () => Value): Value | null {
  try {
    return read();
  } catch {
    return null;
  }
}
