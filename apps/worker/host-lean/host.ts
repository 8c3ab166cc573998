import type { DescriptorInfo, Host } from "../core/host.ts";
import { LeanChildren } from "./children.ts";
import { Connections } from "./connections.ts";
import { EINVAL, type Loop, type Native } from "./native.ts";
import { wellFormed } from "./text.ts";
import { Timers } from "./timers.ts";

/** What is still queued when the process ends gets this long to be written, milliseconds. */
const DRAIN_MS = 2000;

/** The host on QuickJS-ng, and what its loop must call. It has no TLS. */
export function leanHost(native: Native): { host: Host; loop: Loop } {
  const timers = new Timers(() => native.monotonicClock());
  const connections = new Connections(native, timers);
  const children = new LeanChildren(native);
  const args = native.arguments().slice(1);
  const environment = readEnvironment(native);
  let onSignal: (signal: number) => void = () => {};

  const host: Host = {
    connectUnix: (path, handlers) => connections.open(native.connectUnix(wellFormed(path)), handlers),
    connectTcp: (address, port, handlers) =>
      connections.open(port >= 0 && port < 65536 ? native.connectTcp(wellFormed(address), port) : -EINVAL, handlers),

    setTimer: (delayMs, callback) => timers.set(delayMs, callback),
    clearTimer: (id) => timers.clear(id),
    wallClock: () => native.wallClock(),
    monotonicClock: () => native.monotonicClock(),

    spawn: (options, handlers) => children.spawn(options, handlers),
    readChildren: (read) => children.read(read),
    kill: (pid, signal) => native.kill(pid, signal),
    onSignal: (callback) => {
      onSignal = callback;
      native.takeSignals();
    },

    pid: () => native.pid(),
    arguments: () => args,
    environment: () => environment,
    eraseEnvironment: (name) => {
      delete environment[name];
      native.eraseEnvironment(wellFormed(name));
    },
    setTitle: (text) => native.setTitle(wellFormed(text)),
    descriptor: (fd) => describe(native, fd),
    writeDescriptor: (fd, bytes) => native.writeDescriptor(fd, bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length),

    readTextFile: (path) => native.readTextFile(wellFormed(path)) ?? null,
    writeTextFile: (path, text) => native.writeTextFile(wellFormed(path), wellFormed(text)),
    listDirectory: (path) => native.listDirectory(wellFormed(path)),
    makeDirectory: (path) => native.makeDirectory(wellFormed(path)),
    removeDirectory: (path) => native.removeDirectory(wellFormed(path)),
    readLink: (path) => native.readLink(wellFormed(path)) ?? null,

    encodeUtf8: (text) => new Uint8Array(native.encodeUtf8(wellFormed(text))),
    decodeUtf8: (bytes) => native.decodeUtf8(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length),
    encodeBase64: (bytes) => native.encodeBase64(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length),
    decodeBase64: (text) => new Uint8Array(native.decodeBase64(wellFormed(text))),
    randomBytes: (count) => new Uint8Array(native.randomBytes(count)),

    exit: (code) => {
      connections.drain(DRAIN_MS);
      native.exit(code);
    },
  };
  const loop: Loop = {
    runTimers: () => timers.run(),
    ready: (id, readable, writable) => {
      if (!connections.ready(id, readable, writable)) children.ready(id);
    },
    childEnded: (pid, code, signal) => children.ended(pid, code ?? null, signal ?? null),
    signal: (signal) => onSignal(signal),
  };
  return { host, loop };
}

function readEnvironment(native: Native): Record<string, string> {
  const flat = native.environment();
  const environment: Record<string, string> = {};
  for (let at = 0; at < flat.length; at += 2) environment[flat[at] as string] = flat[at + 1] as string;
  return environment;
}

function describe(native: Native, fd: 1 | 2): DescriptorInfo {
  const [kind, device, inode] = native.descriptor(fd);
  return { kind: kind === "file" || kind === "pipe" ? kind : "other", device, inode };
}
