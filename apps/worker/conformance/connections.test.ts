/** What both hosts must do with connections. */
import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { encodeRecord } from "@berth/recordio";
import { freePort, waitFor } from "@berth/test-harness";
import { pattern } from "./probe.ts";
import { hostsUnderTest, listen, startProbe } from "./test-kit.ts";

const MEGABYTES = 6 * 1024 * 1024;
const { hosts, missing } = await hostsUnderTest();
test("the lean host takes part", { skip: missing }, () => assert.equal(hosts.length, 2));

/** Everything until the peer's end. */
async function readAll(socket: Socket): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of socket) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}

for (const host of hosts) {
  describe(`connections on the ${host.name} host`, () => {
    for (const [family, address] of [
      ["IPv4", "127.0.0.1"],
      ["IPv6", "::1"],
    ] as const) {
      test(`TCP over ${family}, with keep-alive on`, async () => {
        await using probe = await startProbe(host);
        await using server = await listen({ host: address, port: 0 });
        const { port } = server.server.address() as { port: number };

        const index = await probe.call("connectTcp", address, port);
        await probe.until("connection", [index], (report) => report.opened);
        const peer = await server.connection(0);
        peer.write(pattern(1000));

        const report = await probe.until("connection", [index], ({ received }) => received === 1000);
        assert.equal(report.intact, true);
      });
    }

    test("megabytes queued behind a peer that does not read arrive whole and in order when it does", async () => {
      await using probe = await startProbe(host);
      const path = join(probe.folder, "s");
      await using server = await listen(path);
      const index = await probe.call("connectUnix", path);
      const peer = await server.connection(0);

      await probe.call("write", index, MEGABYTES, 100);
      // It answers meanwhile: nothing waits for the peer.
      assert.equal((await probe.call("connection", index)).closed, undefined);
      const pieces: Buffer[] = [];
      peer.on("data", (piece: Buffer) => pieces.push(piece)).resume();
      // A close before that would be free to lose what is queued.
      await waitFor(() => pieces.reduce((sum, { length }) => sum + length, 0) >= MEGABYTES, { what: "all of it" });
      await probe.call("close", index);

      const got = Buffer.concat(pieces);
      assert.equal(got.length, MEGABYTES);
      assert.equal(got.equals(pattern(MEGABYTES)), true);
    });

    test("megabytes are read whole while others are written", async () => {
      await using probe = await startProbe(host);
      const path = join(probe.folder, "s");
      await using server = await listen(path);
      const index = await probe.call("connectUnix", path);
      const peer = await server.connection(0);
      await probe.call("write", index, MEGABYTES, 7);
      const reading = readAll(peer);
      peer.end(pattern(MEGABYTES));

      const report = await probe.until("connection", [index], ({ received, closed }) => received === MEGABYTES && closed !== undefined);

      assert.deepEqual([report.intact, report.closed], [true, null]);
      assert.equal((await reading).equals(pattern(MEGABYTES)), true);
    });

    test("a peer that ends its side first still gets what was queued for it", async () => {
      await using probe = await startProbe(host);
      const path = join(probe.folder, "s");
      await using server = await listen(path);
      const index = await probe.call("connectUnix", path);
      const peer = await server.connection(0);
      await probe.call("write", index, MEGABYTES, 10);

      peer.end();
      const got = await readAll(peer);

      assert.equal(got.equals(pattern(MEGABYTES)), true);
      const report = await probe.until("connection", [index], ({ closed }) => closed !== undefined);
      assert.equal(report.closed, null);
    });

    test("records come out the same wherever the bytes are cut", async () => {
      await using probe = await startProbe(host);
      const path = join(probe.folder, "s");
      await using server = await listen(path);
      const texts = ["", '{"type":"HEARTBEAT"}', "é€😀", "x".repeat(300)];
      const bytes = Buffer.concat(texts.map((text) => encodeRecord(Buffer.from(text))));
      // Each connection is cut once, at its own place; every place has a connection.
      for (let from = 0; from <= bytes.length; from += 64) {
        const places = Array.from({ length: Math.min(64, bytes.length + 1 - from) }, (_, at) => from + at);
        const indices: number[] = await Promise.all(places.map(() => probe.call("connectUnix", path, 1000)));
        await Promise.all(
          places.map(async (place, at) => {
            const peer = await server.connection(from + at);
            peer.write(bytes.subarray(0, place));
            // Not the same packet: by now the first part was read, or at least sent.
            await probe.call("pid");
            peer.write(bytes.subarray(place));
          }),
        );
        for (const index of indices) {
          const report = await probe.until("connection", [index], ({ records }) => records.length === texts.length);
          assert.deepEqual(report.records, texts);
        }
        for (const index of indices) await probe.call("close", index);
      }
    });

    test("a record over the limit closes that connection, says why, and touches no other", async () => {
      await using probe = await startProbe(host);
      const path = join(probe.folder, "s");
      await using server = await listen(path);
      const bad = await probe.call("connectUnix", path, 1000);
      const good = await probe.call("connectUnix", path, 1000);

      (await server.connection(0)).write("1001\nx");
      (await server.connection(1)).write("3\nyes");

      const report = await probe.until("connection", [bad], ({ framing }) => framing);
      assert.match(report.framing, /longer than the limit of 1000 bytes/);
      assert.deepEqual((await probe.until("connection", [good], ({ records }) => records.length > 0)).records, ["yes"]);
    });

    test("what cannot be connected closes with the error's name", async () => {
      await using probe = await startProbe(host);
      const folder = probe.folder;
      const longest = join(folder, "x".repeat(107 - folder.length - 1));
      await using _server = await listen(longest);
      const cases: Array<[error: string | undefined, index: number]> = [
        ["ENOENT", await probe.call("connectUnix", join(folder, "nobody"))],
        ["ENAMETOOLONG", await probe.call("connectUnix", `${longest}y`)],
        ["ENAMETOOLONG", await probe.call("connectUnix", join(folder, "é".repeat(60)))],
        ["ECONNREFUSED", await probe.call("connectTcp", "127.0.0.1", await freePort())],
        [undefined, await probe.call("connectUnix", longest)],
      ];
      for (const [error, index] of cases) {
        const report = await probe.until("connection", [index], ({ closed, opened }) => closed !== undefined || opened);
        assert.deepEqual([report.closed, report.opened], [error, error === undefined]);
      }
    });

    test("a reset is an error, and writes behind it are nothing", async () => {
      await using probe = await startProbe(host);
      await using server = await listen({ host: "127.0.0.1", port: 0 });
      const { port } = server.server.address() as { port: number };
      const index = await probe.call("connectTcp", "127.0.0.1", port);
      await probe.until("connection", [index], ({ opened }) => opened);

      (await server.connection(0)).resetAndDestroy();

      const report = await probe.until("connection", [index], ({ closed }) => closed !== undefined);
      assert.equal(report.closed, "ECONNRESET");
      await probe.call("write", index, 100);
      await probe.call("close", index);
    });

    test("queued output is written before an exit", async () => {
      await using probe = await startProbe(host);
      const path = join(probe.folder, "s");
      await using server = await listen(path);
      const index = await probe.call("connectUnix", path);
      const peer = await server.connection(0);
      // Unread input at a close would make the kernel throw away what was said last.
      peer.write("never read");
      probe.send("writeAndExit", index, MEGABYTES, 9);

      const got = await readAll(peer);

      assert.equal(got.equals(pattern(MEGABYTES)), true);
      assert.deepEqual(await probe.ended, [9, null]);
    });

    test("a peer that never reads does not hold the exit up for good", async () => {
      await using probe = await startProbe(host);
      const path = join(probe.folder, "s");
      await using server = await listen(path);
      const index = await probe.call("connectUnix", path);
      await server.connection(0);
      probe.send("writeAndExit", index, MEGABYTES, 8);

      assert.deepEqual(await probe.ended, [8, null]);
    });

    test("SIGTERM while megabytes are queued is told, and nothing of them is lost", async () => {
      await using probe = await startProbe(host);
      const path = join(probe.folder, "s");
      await using server = await listen(path);
      const index = await probe.call("connectUnix", path);
      const peer = await server.connection(0);
      await probe.call("takeSignals");
      await probe.call("write", index, MEGABYTES, 3);

      probe.process.kill("SIGTERM");
      probe.process.kill("SIGINT");

      const signals = await probe.until("signals", [], ({ length }) => length === 2);
      assert.deepEqual(signals.sort(), [15, 2]);
      const reading = readAll(peer);
      probe.send("exit", 0);
      assert.equal((await reading).equals(pattern(MEGABYTES)), true);
    });
  });
}
