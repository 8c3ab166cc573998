import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { tempDir, waitFor } from "@berth/test-harness";
import { LogLane, type ReadLine } from "./index.ts";

function writeRecords(path: string, what: string, count: number): void {
  const record = (i: number): string => {
    const time = new Date(Date.UTC(2026, 0, 1) + i).toISOString().replace("Z", "000001Z");
    return `${JSON.stringify({ log: `${what} ${i} ${"x".repeat(400)}\n`, stream: "stdout", time })}\n`;
  };
  writeFileSync(path, Array.from({ length: count }, (_, i) => record(i)).join(""));
}

/** Follows a task with a setting that no schema would let through, of which the thread dies; once, because its output is removed then. */
async function killThread(lane: LogLane, path: string, context: TestContext): Promise<void> {
  const server = createServer().listen(0, "127.0.0.1");
  context.after(() => server.close());
  await waitFor(() => server.listening);
  const { port } = server.address() as { port: number };
  const before = lane.restarts;
  writeRecords(path, "deadly", 1);
  await lane.follow({
    taskKey: "deadly",
    source: { kind: "json-file", path },
    sinks: [{ type: "logstash", transport: "tcp", addresses: [`127.0.0.1:${port}`], connectMs: "soon" as never }],
    fields: {},
    hostname: "h",
  });
  await waitFor(() => lane.restarts > before);
  await lane.stop({ taskKey: "deadly", drain: false, deadline: Date.now() });
}

function textsOf(lines: ReadLine[] | undefined): string[] {
  return (lines ?? []).map(({ bytes }) => Buffer.from(bytes).toString());
}

test("a reader goes on in its own task's output when the thread was replaced, whoever reads in the new one", async (context) => {
  await using folder = await tempDir("lane");
  const [own, other] = [join(folder.path, "own.log"), join(folder.path, "other.log")];
  writeRecords(own, "own", 3_000);
  writeRecords(other, "other", 3_000);
  const deadly = join(folder.path, "deadly.log");
  const log = { debug: () => {}, info: () => {}, warn: () => rmSync(deadly, { force: true }) };
  const lane = LogLane.open({ docker: { url: "", socketPath: "/nowhere" }, log });
  context.after(() => lane.close());
  const reading = lane.read({ source: { kind: "json-file", path: own } });
  const lines = textsOf((await reading.next()).value as ReadLine[]);

  await killThread(lane, deadly, context);
  const another = lane.read({ source: { kind: "json-file", path: other } });
  await another.next();
  for await (const more of reading) lines.push(...textsOf(more));
  for await (const more of another) assert.ok(textsOf(more).every((text) => text.startsWith("other ")));

  assert.deepEqual(
    lines,
    Array.from({ length: 3_000 }, (_, i) => `own ${i} ${"x".repeat(400)}`),
  );
});

test("a thread that dies leaves no socket behind", { skip: process.platform !== "linux" }, async (context) => {
  await using folder = await tempDir("lane");
  const deadly = join(folder.path, "deadly.log");
  const log = { debug: () => {}, info: () => {}, warn: () => rmSync(deadly, { force: true }) };
  const lane = LogLane.open({ docker: { url: "", socketPath: "/nowhere" }, log });
  context.after(() => lane.close());
  const receiver = createSocket("udp4");
  context.after(() => receiver.close());
  let got = 0;
  receiver.on("message", () => got++);
  await new Promise<void>((resolve) => receiver.bind(0, "127.0.0.1", resolve));
  const sinks = [{ type: "json-udp", address: `127.0.0.1:${receiver.address().port}` } as const];
  await lane.follow({ taskKey: "t", source: { kind: "pushed" }, sinks, fields: {}, hostname: "h" });
  const write = (): void => lane.push({ taskKey: "t", stream: "stdout", bytes: Buffer.from("line\n") });
  await waitFor(() => {
    write();
    return got > 0;
  });
  const before = udpSockets();

  await killThread(lane, deadly, context);
  const gotBefore = got;
  await waitFor(() => {
    write();
    return got > gotBefore;
  });

  assert.equal(udpSockets(), before);
});

/** Of this process. */
function udpSockets(): number {
  const inodes = new Set(
    readFileSync("/proc/self/net/udp", "latin1")
      .split("\n")
      .map((line) => line.trim().split(/\s+/)[9]),
  );
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1];
      return inode !== undefined && inodes.has(inode);
    } catch {
      // It was that of the listing.
      return false;
    }
  }).length;
}
