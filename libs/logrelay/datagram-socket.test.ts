import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { bindUnix, freePort, tempDir, waitFor } from "@berth/test-harness";
import { type DatagramSocket, NativeDatagramSocket } from "./datagram-socket.ts";
import { DatagramSockets } from "./datagram-sockets.ts";
import { DatagramTransport } from "./datagram-transport.ts";
import { loadLibc } from "./libc.ts";
import type { ThreadLogLine } from "./types.ts";

const libc = await loadLibc();

interface Receiver {
  socket: Socket;
  port: number;
  got: string[];
}

async function receive(address = "127.0.0.1", port = 0): Promise<Receiver> {
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  const got: string[] = [];
  socket.on("message", (message) => got.push(message.toString("latin1")));
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.bind(port, address, resolve);
  });
  return { socket, port: socket.address().port, got };
}

/** Frames that can be told apart by their beginning, of the given lengths. */
function framesOf(lengths: readonly number[]): { texts: string[]; bytes: Buffer; ends: number[] } {
  const texts = lengths.map((length, index) => `${index}:`.padEnd(length, String.fromCharCode(97 + (index % 26))).slice(0, length));
  let end = 0;
  const ends = lengths.map((length) => {
    end += length;
    return end;
  });
  return { texts, bytes: Buffer.from(texts.join(""), "latin1"), ends };
}

/** Sends all, not faster than a receiver's default buffer allows, and returns what came. */
async function exchange(socket: DatagramSocket, receiver: Receiver, lengths: readonly number[], step = 100): Promise<string[]> {
  const { texts, bytes, ends } = framesOf(lengths);
  receiver.got.length = 0;
  for (let from = 0; from < lengths.length; from += step) {
    const to = Math.min(lengths.length, from + step);
    assert.equal(socket.send(bytes, ends, from, to), to - from);
    await waitFor(() => receiver.got.length >= to, { what: `datagram ${to}` });
  }
  assert.deepEqual(receiver.got, texts);
  return receiver.got;
}

test("each frame arrives as one datagram, in order, whatever its length", async () => {
  const receiver = await receive();
  const socket = new NativeDatagramSocket(libc, { family: 4, address: "127.0.0.1", port: receiver.port });
  const random = (index: number): number => 20 + ((index * 7919) % 211);

  await exchange(socket, receiver, new Array(1_000).fill(240));
  await exchange(
    socket,
    receiver,
    Array.from({ length: 1_000 }, (_, index) => random(index)),
  );
  await exchange(socket, receiver, [5, 5, 5, 4, 4, 5, 3, 0, 0, 5, 0, 5, 5, 1, 1, 1, 1]);
  await exchange(socket, receiver, [...new Array(40).fill(2_000), 60_000, 2_000, 1_999, 40_000, 40_000, 40_000], 10);

  assert.equal(socket.problem, undefined);
  assert.equal(socket.refused, 0);
  socket.close();
  receiver.socket.close();
});

test("a frame that is too long for a datagram is cut", async () => {
  const receiver = await receive();
  const socket = new NativeDatagramSocket(libc, { family: 4, address: "127.0.0.1", port: receiver.port });
  const { texts, bytes, ends } = framesOf([10, 70_000, 10]);

  assert.equal(socket.send(bytes, ends, 0, 3), 3);
  await waitFor(() => receiver.got.length === 3);

  assert.deepEqual(receiver.got, [texts[0], texts[1]?.slice(0, 65_507), texts[2]]);
  socket.close();
  receiver.socket.close();
});

test("IPv6", async (context) => {
  const receiver = await receive("::1").catch(() => undefined);
  if (receiver === undefined) return context.skip("this host has no IPv6");
  const socket = new NativeDatagramSocket(libc, { family: 6, address: "::1", port: receiver.port });

  await exchange(socket, receiver, [...new Array(100).fill(200), 199, 200, 300, 100]);

  socket.close();
  receiver.socket.close();
});

/** In a network namespace of its own: the loopback's packets become smaller, before and after the socket is there. */
const NARROW = `
const { createSocket } = await import("node:dgram");
const { execFileSync } = await import("node:child_process");
const { NativeDatagramSocket } = await import(process.env.SOCKET);
const { loadLibc } = await import(process.env.LIBC);
const mtu = (bytes) => execFileSync("ip", ["link", "set", "lo", "up", "mtu", String(bytes)]);
const receiver = createSocket("udp4");
const got = [];
receiver.on("message", (message) => got.push(message.length));
mtu(1500);
await new Promise((resolve) => receiver.bind(0, "127.0.0.1", resolve));
const socket = new NativeDatagramSocket(await loadLibc(), { family: 4, address: "127.0.0.1", port: receiver.address().port });
const answers = [];
const send = async (lengths) => {
  got.length = 0;
  let end = 0;
  const ends = lengths.map((length) => (end += length));
  const taken = socket.send(Buffer.alloc(end), ends, 0, lengths.length);
  for (let tries = 0; got.length < lengths.length && tries < 200; tries++) await new Promise((resolve) => setTimeout(resolve, 10));
  answers.push({ taken, got: got.join(), refused: socket.refused, problem: socket.problem });
};
await send([1472, 1472, 1472, 1473, 1473, 5000, 5000, 100]);
mtu(1000);
await send([1400, 1400, 1400, 100, 100, 100]);
await send([972, 972, 973, 973]);
console.log(JSON.stringify(answers));
receiver.close();
`;

test("what is larger than a packet goes alone, also when packets became smaller", async () => {
  const env = { ...process.env, SOCKET: import.meta.resolve("./datagram-socket.ts"), LIBC: import.meta.resolve("./libc.ts") };
  const args = ["--net", process.execPath, "--input-type=module", "-e", NARROW];

  const { stdout } = await promisify(execFile)("unshare", args, { env });

  const all = { refused: 0 };
  assert.deepEqual(JSON.parse(stdout), [
    { taken: 8, got: "1472,1472,1472,1473,1473,5000,5000,100", ...all },
    { taken: 6, got: "1400,1400,1400,100,100,100", ...all },
    { taken: 4, got: "972,972,973,973", ...all },
  ]);
});

test("a kernel that cuts no runs gets the datagrams one by one", async () => {
  const { default: koffi } = await import("koffi");
  const setsockopt = koffi.load(null).func("int setsockopt(int fd, int level, int name, void *value, uint32 length)");
  const one = Buffer.from([1, 0, 0, 0]);
  // Without checksums it refuses runs (SO_NO_CHECK).
  const stubborn = {
    ...libc,
    socket: (domain: number, type: number, protocol: number): number => {
      const fd = libc.socket(domain, type, protocol);
      assert.equal(setsockopt(fd, 1, 11, one, one.length), 0);
      return fd;
    },
  };
  const receiver = await receive();
  const socket = new NativeDatagramSocket(stubborn, { family: 4, address: "127.0.0.1", port: receiver.port });

  await exchange(socket, receiver, new Array(300).fill(240));

  assert.equal(socket.refused, 0);
  socket.close();
  receiver.socket.close();
});

test("a UDP receiver that is away is told and counted; what is sent after its return arrives", async () => {
  const port = await freePort();
  const socket = new NativeDatagramSocket(libc, { family: 4, address: "127.0.0.1", port });
  const { bytes, ends } = framesOf([10, 10, 10, 20, 30, 40]);

  // Three runs and singles: the refusal of the last one is heard only at the next call.
  assert.equal(socket.send(bytes, ends, 0, 6), 6);
  assert.equal(socket.send(bytes, ends, 0, 6), 6);
  assert.equal(socket.refused, 11);
  assert.equal(socket.problem, "ECONNREFUSED");

  const receiver = await receive("127.0.0.1", port);
  const { texts } = framesOf([10, 10, 10, 20, 30, 40]);
  assert.equal(socket.send(bytes, ends, 0, 6), 6);
  await waitFor(() => receiver.got.length === 6);
  assert.deepEqual(receiver.got, texts);
  assert.equal(socket.refused, 12);

  assert.equal(socket.send(bytes, ends, 0, 6), 6);
  assert.equal(socket.problem, undefined);
  socket.close();
  receiver.socket.close();
});

/** Tells its port, and each datagram that comes; its buffer is the default one. */
const SLOW = `
const receiver = require("node:dgram").createSocket(process.argv[1]);
const got = [];
receiver.on("message", (message) => got.push(message.toString("latin1")));
receiver.bind(0, () => process.send(receiver.address().port));
process.on("message", () => process.send(got));
process.on("disconnect", () => process.exit());`;

for (const [type, host] of [
  ["udp4", "127.0.0.1"],
  ["udp6", "[::1]"],
] as const) {
  test(`a receiver on this host that has no time loses nothing (${type})`, async (context) => {
    if (type === "udp6" && !existsSync("/proc/net/if_inet6")) return context.skip("this host has no IPv6");
    const child = spawn(process.execPath, ["-e", SLOW, type], { stdio: ["ignore", "ignore", "inherit", "ipc"] });
    const [port] = (await once(child, "message")) as [number];
    child.kill("SIGSTOP");
    const lengths = Array.from({ length: 3_000 }, (_, index) => (index % 1_000 === 7 ? 30_000 : 200 + (index % 50)));
    const { texts, bytes, ends } = framesOf(lengths);
    const transport = new DatagramTransport({ kind: "udp", address: `${host}:${port}`, rate: 1_000_000 }, new DatagramSockets(() => {}));
    const parcel = { bytes, ends, next: 0, cancelled: false };
    const done = new Promise<number>((resolve) => transport.send({ ...parcel, done: resolve }));
    await waitFor(() => transport.problem?.includes("takes nothing more"));
    child.kill("SIGCONT");

    assert.equal(await done, lengths.length);
    const got = await waitFor(async () => {
      child.send("tell");
      const [all] = (await once(child, "message")) as [string[]];
      return all.length >= lengths.length && all;
    });
    assert.deepEqual(got, texts);
    assert.equal(transport.problem, undefined);
    transport.close();
    child.disconnect();
    await once(child, "exit");
  });
}

test("a unix receiver that is slow holds back, one that is gone is told", async () => {
  await using folder = await tempDir("dg");
  const path = join(folder.path, "log");
  assert.throws(() => new NativeDatagramSocket(libc, { path }), { code: "ENOENT" });
  const receiver = await bindUnix(path);
  const socket = new NativeDatagramSocket(libc, { path });
  const { texts, bytes, ends } = framesOf(new Array(3_000).fill(100));
  const got: string[] = [];

  let sent = 0;
  let full = 0;
  while (sent < ends.length) {
    sent += socket.send(bytes, ends, sent, ends.length);
    if (socket.state === "full") full += 1;
    for (let datagram = receiver.receive(); datagram !== undefined; datagram = receiver.receive()) got.push(datagram.toString("latin1"));
  }
  assert.deepEqual(got, texts);
  assert.ok(full > 0);

  receiver.close();
  assert.equal(socket.send(bytes, ends, 0, 5), 0);
  assert.equal(socket.state, "away");
  assert.equal(socket.problem, "ECONNREFUSED");
  assert.throws(() => new NativeDatagramSocket(libc, { path }), { code: "ECONNREFUSED" });
  socket.close();
});

test("what a unix socket's reader did not take before its end comes when it is back", async () => {
  await using folder = await tempDir("dg");
  const path = join(folder.path, "log");
  const transport = new DatagramTransport({ kind: "unix", path }, new DatagramSockets(() => {}));
  const send = (name: string): Promise<number> =>
    new Promise((resolve) => {
      const bytes = Buffer.from(name);
      transport.send({ bytes, ends: [1, bytes.length], next: 0, cancelled: false, done: resolve });
    });
  const first = send("a1");
  await waitFor(() => transport.problem?.includes("ENOENT"));
  assert.equal(transport.alive, false);

  const before = await bindUnix(path);
  assert.equal(await first, 2);
  before.close();
  const second = send("b2");
  await waitFor(() => transport.problem?.includes("ECONNREFUSED"));
  const after = await bindUnix(path);

  assert.equal(await second, 2);
  assert.deepEqual([after.receive()?.toString(), after.receive()?.toString()], ["b", "2"]);
  assert.equal(transport.problem, undefined);
  transport.close();
  after.close();
});

test("without the C library UDP goes by Node, unix sockets say why they cannot", async () => {
  await using folder = await tempDir("dg");
  const told: ThreadLogLine[] = [];
  const sockets = new DatagramSockets(
    (line) => told.push(line),
    () => Promise.reject(new Error("no binary")),
  );
  const receiver = await receive();
  const socket = await sockets.open({ family: 4, address: "127.0.0.1", port: receiver.port });

  await exchange(socket, receiver, [240, 240, 240, 100, 300]);
  await assert.rejects(sockets.open({ path: join(folder.path, "log") }), /unix datagram sockets.*no binary/);

  assert.equal(told.length, 1);
  socket.close();
  receiver.socket.close();
});
