import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { bindUnix, freePort, tempDir, waitFor } from "@berth/test-harness";
import { DatagramSockets } from "./datagram-sockets.ts";
import { DatagramTransport } from "./datagram-transport.ts";
import { NodeDatagramSocket } from "./node-datagram-socket.ts";
import type { Parcel } from "./transport.ts";

const sockets = new DatagramSockets(() => {});

function parcelOf(frames: number, length = 10, done: Parcel["done"] = () => {}): Parcel {
  const ends = Array.from({ length: frames }, (_, index) => (index + 1) * length);
  return { bytes: Buffer.alloc(frames * length, "x"), ends, next: 0, cancelled: false, done };
}

function openFiles(): number {
  return readdirSync("/proc/self/fd").length;
}

test("what its sinks gave up does not pile up behind a reader that takes nothing", async () => {
  await using folder = await tempDir("dt");
  const path = join(folder.path, "log");
  const receiver = await bindUnix(path);
  const transport = new DatagramTransport({ kind: "unix", path }, sockets);
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  transport.send(parcelOf(10_000));
  await waitFor(() => transport.problem?.includes("takes nothing"));
  collect();
  const before = process.memoryUsage().arrayBuffers;

  for (let task = 0; task < 64; task++) {
    const parcel = parcelOf(100, 10_000);
    transport.send(parcel);
    parcel.cancelled = true;
  }
  await waitFor(() => {
    collect();
    return process.memoryUsage().arrayBuffers - before < 16 * 1024 * 1024;
  });

  transport.close();
  receiver.close();
});

test("a transport that has nothing to send holds no socket, and opens one again for what comes", async () => {
  const receiver = createSocket("udp4");
  let got = 0;
  receiver.on("message", () => got++);
  await new Promise<void>((resolve) => receiver.bind(0, "127.0.0.1", resolve));
  const transport = new DatagramTransport({ kind: "udp", address: `127.0.0.1:${receiver.address().port}` }, sockets, 50);
  await (await sockets.open({ family: 4, address: "127.0.0.1", port: 9 })).close();
  const before = openFiles();

  for (let wanted = 3; wanted <= 6; wanted += 3) {
    transport.send(parcelOf(3));
    await waitFor(() => got === wanted);
    await waitFor(() => openFiles() === before);
  }

  transport.close();
  receiver.close();
});

test("refusals are all counted, although they are told of when less is on its way", async () => {
  const transport = new DatagramTransport({ kind: "udp", address: `127.0.0.1:${await freePort()}` }, sockets);
  let lost = 0;
  const send = (frames: number): Promise<void> =>
    new Promise((resolve) => {
      transport.send(
        parcelOf(frames, 10, (_sent, refused) => {
          lost += refused;
          resolve();
        }),
      );
    });
  // One run of datagrams; that nobody was there is told with the next ones.
  await send(64);
  await send(1);
  await send(64);
  transport.close();

  assert.ok(lost >= 64, `${lost} of 129 counted`);
});

test("without the C library a receiver that cannot be reached costs no socket each time it is tried", async () => {
  const unreachable = { family: 4, address: "nobody.invalid", port: 9 } as const;
  await assert.rejects(NodeDatagramSocket.open(unreachable));
  const before = openFiles();

  for (let attempt = 0; attempt < 5; attempt++) await assert.rejects(NodeDatagramSocket.open(unreachable));

  await waitFor(() => openFiles() <= before);
});
