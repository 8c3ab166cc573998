import type { Connection, ConnectionHandlers, DescriptorInfo, Host } from "../core/host.ts";
import { ChildProcesses } from "./children.ts";
import { type HostCallbacks, type Natives, wellFormed } from "./natives.ts";
import { Streams } from "./streams.ts";
import { Timers } from "./timers.ts";

/** What is still queued when the worker ends gets this long to be written, milliseconds. */
const DRAIN_MS = 2000;

/** The worker's host on QuickJS-ng, and what the Rust side's loop calls. */
export function leanHost(natives: Natives): { host: Host; callbacks: HostCallbacks } {
  const timers = new Timers(natives.monotonicClock);
  const streams = new Streams(natives);
  const children = new ChildProcesses(natives, streams);
  const environment = readEnvironment(natives);
  let onSignal: (signal: number) => void = () => {};

  const connection = (id: number | string, handlers: ConnectionHandlers): Connection => {
    if (typeof id === "number") return streams.connection(id, handlers);
    const timer = timers.set(0, () => handlers.close(id));
    return { write: () => {}, close: () => timers.clear(timer) };
  };

  const host: Host = {
    connectUnix: (path, handlers) => connection(natives.connectUnix(wellFormed(path)), handlers),
    connectTcp: (address, port, handlers) =>
      connection(port > 0 && port < 65536 ? natives.connectTcp(wellFormed(address), port) : "EINVAL", handlers),

    setTimer: (delayMs, callback) => timers.set(delayMs, callback),
    clearTimer: (id) => timers.clear(id),
    wallClock: () => natives.wallClock(),
    monotonicClock: () => natives.monotonicClock(),

    spawn: (options, handlers) => children.spawn(options, handlers),
    kill: (pid, signal) => natives.kill(pid, signal),
    onSignal: (callback) => {
      onSignal = callback;
    },

    pid: () => natives.pid(),
    arguments: () => natives.arguments(),
    environment: () => environment,
    eraseEnvironment: (name) => {
      delete environment[name];
      natives.eraseEnvironment(wellFormed(name));
    },
    setTitle: (text) => natives.setTitle(wellFormed(text)),
    descriptor: (fd) => {
      const [kind = "other", device = "", inode = ""] = natives.describe(fd);
      return { kind: kind as DescriptorInfo["kind"], device, inode };
    },
    writeDescriptor: (fd, bytes) => natives.writeWhole(fd, bytes.buffer, bytes.byteOffset, bytes.length),

    readTextFile: (path) => natives.readTextFile(wellFormed(path)) ?? null,
    writeTextFile: (path, text) => natives.writeTextFile(wellFormed(path), wellFormed(text)),
    listDirectory: (path) => natives.listDirectory(wellFormed(path)),
    makeDirectory: (path) => natives.makeDirectory(wellFormed(path)),
    removeDirectory: (path) => natives.removeDirectory(wellFormed(path)),
    readLink: (path) => natives.readLink(wellFormed(path)) ?? null,

    encodeUtf8: (text) => new Uint8Array(natives.encodeUtf8(wellFormed(text))),
    decodeUtf8: (bytes) => natives.decodeUtf8(bytes.buffer, bytes.byteOffset, bytes.length),
    randomBytes: (count) => new Uint8Array(natives.randomBytes(count)),

    exit: (code) => {
      streams.drain(DRAIN_MS);
      natives.exit(code);
    },
  };
  const callbacks: HostCallbacks = {
    timeout: () => timers.run(),
    ready: (id, readable, writable) => streams.ready(id, readable, writable),
    // Rust's None arrives as undefined.
    childExited: (pid, code, signal) => children.exited(pid, code ?? null, signal ?? null),
    signal: (number) => onSignal(number),
  };
  return { host, callbacks };
}

function readEnvironment(natives: Natives): Record<string, string> {
  const texts = natives.environment();
  const environment: Record<string, string> = {};
  for (let at = 0; at + 1 < texts.length; at += 2) environment[texts[at] as string] = texts[at + 1] as string;
  return environment;
}
