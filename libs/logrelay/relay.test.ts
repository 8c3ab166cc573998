import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createSocket } from "node:dgram";
import {
  appendFileSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { freePort, tempDir, waitFor } from "@berth/test-harness";
import { LastOutput } from "./last-output.ts";
import { LogRelay, type RelayEvents } from "./relay.ts";
import type { FollowRequest, LastLogs, LogPosition } from "./types.ts";

const docker = { url: "unix:///nowhere", socketPath: "/nowhere" };

interface Told {
  positions: Map<string, LogPosition>;
  output: Array<{ id: number; bytes: Uint8Array }>;
  problems: Array<string | undefined>;
}

function relayWith(told: Told = { positions: new Map(), output: [], problems: [] }): { relay: LogRelay; told: Told } {
  const events: RelayEvents = {
    positions: (batch) => {
      for (const { taskKey, position } of batch) told.positions.set(taskKey, position);
    },
    output: (event) => void told.output.push(event),
    problem: ({ problem }) => void told.problems.push(problem),
    log: () => {},
  };
  return { relay: new LogRelay({ docker }, events), told };
}

let clock = Date.UTC(2026, 0, 1);

function record(log: string, stream = "stdout", more = {}): string {
  clock += 1;
  const time = new Date(clock).toISOString().replace("Z", "123456Z");
  return `${JSON.stringify({ log, stream, ...more, time }).replaceAll("<", "\\u003c")}\n`;
}

function request(folder: string, more: Partial<FollowRequest> = {}): FollowRequest {
  return {
    taskKey: "t",
    source: { kind: "json-file", path: join(folder, "c.log") },
    sandbox: { stdoutPath: join(folder, "stdout"), stderrPath: join(folder, "stderr"), writable: true },
    sinks: [{ type: "sandbox" }],
    fields: { ServiceName: "svc", Environment: "dev" },
    hostname: "host1",
    ...more,
  };
}

const soon = (): number => Date.now() + 20_000;
const drain = { taskKey: "t", drain: true };

test("lines come to the sandbox as they were written, pieces joined, both streams apart", async () => {
  await using folder = await tempDir("lr");
  const path = join(folder.path, "c.log");
  const long = "ż".repeat(40_000);
  writeFileSync(
    path,
    record("hello\n") +
      record(long.slice(0, 8_192)) +
      record('"quoted" \\ <tab>\there\n', "stderr") +
      record(long.slice(8_192)) +
      record("\n") +
      record("\n") +
      record("ends in backslash n \\n") +
      record("\n") +
      record("with attrs\n", "stdout", { attrs: { a: 'b"' } }) +
      `{"log":"torn off${record("after a torn record\n")}` +
      "no record at all\n" +
      record("last one has no line feed"),
  );
  const { relay } = relayWith();

  relay.follow(request(folder.path));
  await waitFor(() => relay.stats().tasks[0]?.lagBytes === 0);
  const statistics = await relay.stop({ ...drain, deadline: soon() });

  assert.deepEqual(readFileSync(join(folder.path, "stdout"), "utf8").replace(long, "(long)").split("\n"), [
    "hello",
    "(long)",
    "",
    "ends in backslash n \\n",
    "with attrs",
    "after a torn record",
    "last one has no line feed",
    "",
  ]);
  assert.equal(readFileSync(join(folder.path, "stderr"), "utf8"), '"quoted" \\ <tab>\there\n');
  assert.equal(statistics?.malformed, 1);
  relay.close();
});

test("rotation by rename, packing and deletion lose no line, and a restart goes on where it was", async () => {
  await using folder = await tempDir("lr");
  const path = join(folder.path, "c.log");
  let number = 0;
  const write = (count: number): void => {
    let text = "";
    for (let i = 0; i < count; i++) text += record(`n ${number++}\n`);
    appendFileSync(path, text);
  };
  const rotate = (): void => {
    rmSync(`${path}.3.gz`, { force: true });
    try {
      renameSync(`${path}.2.gz`, `${path}.3.gz`);
    } catch {}
    try {
      writeFileSync(`${path}.2.gz`, gzipSync(readFileSync(`${path}.1`)));
      rmSync(`${path}.1`);
    } catch {}
    renameSync(path, `${path}.1`);
    writeFileSync(path, "");
  };
  write(3_000);
  rotate();
  write(3_000);
  const first = relayWith();
  first.relay.follow(request(folder.path));
  await waitFor(() => first.relay.stats().tasks[0]?.lines === 6_000);
  for (let i = 0; i < 3; i++) {
    write(2_000);
    rotate();
    const wanted = number;
    await waitFor(() => first.relay.stats().tasks[0]?.lines === wanted);
  }
  await waitFor(() => first.told.positions.size === 1);
  await first.relay.stop({ taskKey: "t", drain: false, deadline: soon() });
  first.relay.close();
  const position = first.told.positions.get("t") as LogPosition;
  write(2_000);
  rotate();
  write(2_000);
  rotate();
  write(10);

  const second = relayWith();
  second.relay.follow(request(folder.path, { position }));
  await waitFor(() => second.relay.stats().tasks[0]?.lagBytes === 0);
  const statistics = await second.relay.stop({ ...drain, deadline: soon() });
  second.relay.close();

  const lines = readFileSync(join(folder.path, "stdout"), "utf8").trimEnd().split("\n");
  assert.deepEqual(
    lines,
    Array.from({ length: number }, (_, i) => `n ${i}`),
  );
  assert.equal(statistics?.gaps, 0);
});

test("a file that is cut off, and one that is gone before it was read, are counted gaps", async () => {
  await using folder = await tempDir("lr");
  const path = join(folder.path, "c.log");
  writeFileSync(path, record("one\n") + record("two\n"));
  const { relay, told } = relayWith();
  relay.follow(request(folder.path));
  await waitFor(() => told.positions.size === 1);
  writeFileSync(path, record("three\n") + record("four, which is longer than both of them\n") + record("five\n"));
  await waitFor(() => relay.stats().tasks[0]?.lines === 5);
  const statistics = await relay.stop({ ...drain, deadline: soon() });
  assert.equal(statistics?.gaps, 1);

  rmSync(path);
  writeFileSync(path, record("six\n"));
  relay.follow(request(folder.path, { position: told.positions.get("t") as LogPosition }));
  await waitFor(() => relay.stats().tasks[0]?.lines === 1);
  const again = await relay.stop({ ...drain, deadline: soon() });
  relay.close();

  assert.equal(again?.gaps, 1);
  assert.match(readFileSync(join(folder.path, "stdout"), "utf8"), /five\nsix\n$/);
});

test("the JSON datagram is the incumbent's, byte for byte", async () => {
  await using folder = await tempDir("lr");
  const socket = createSocket("udp4");
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  const received: string[] = [];
  socket.on("message", (message) => received.push(message.toString()));
  writeFileSync(
    join(folder.path, "c.log"),
    '{"log":"a \\u003cb\\u003e \\"c\\"\\n","stream":"stdout","time":"2026-11-21T07:00:47.5Z"}\n' +
      '{"log":"An ERROR\\n","stream":"stderr","time":"2026-11-21T07:00:47.6Z"}\n' +
      '{"log":"Error on stdout\\n","stream":"stdout","time":"2026-11-21T07:00:48Z"}\n',
  );
  const { relay } = relayWith();

  relay.follow(request(folder.path, { sinks: [{ type: "json-udp", address: `127.0.0.1:${socket.address().port}` }] }));
  await waitFor(() => received.length === 3);

  const zone = (second: number): string => {
    const minutes = -new Date(Date.UTC(2026, 10, 21)).getTimezoneOffset();
    return minutes === 0
      ? `2026-11-21T07:00:${second}Z`
      : (received[0]?.match(/Timestamp":"([^"]+)"/)?.[1]?.replace(":47", `:${second}`) ?? "");
  };
  assert.deepEqual(received, [
    `{"Environment":"dev","Hostname":"host1","Level":"info","Payload":"a \\u003cb\\u003e \\"c\\"","ServiceName":"svc","Timestamp":"${zone(47)}"}\n`,
    `{"Environment":"dev","Hostname":"host1","Level":"error","Payload":"An ERROR","ServiceName":"svc","Timestamp":"${zone(47)}"}\n`,
    `{"Environment":"dev","Hostname":"host1","Level":"info","Payload":"Error on stdout","ServiceName":"svc","Timestamp":"${zone(48)}"}\n`,
  ]);
  relay.close();
  socket.close();
});

test("a task that is over before its source was opened has its lines relayed all the same", async () => {
  await using folder = await tempDir("lr");
  writeFileSync(join(folder.path, "c.log"), record("one\n") + record("two"));
  const { relay } = relayWith();

  relay.follow(request(folder.path));
  const statistics = await relay.stop({ ...drain, deadline: soon() });
  relay.close();

  assert.equal(statistics?.lines, 2);
  assert.equal(readFileSync(join(folder.path, "stdout"), "utf8"), "one\ntwo\n");
});

test("a receiver that is away holds up nothing; what it missed within its queue comes when it is back", async () => {
  await using folder = await tempDir("lr");
  const port = await freePort();
  const text = Array.from({ length: 2_000 }, (_, i) => record(`line ${i}\n`)).join("");
  writeFileSync(join(folder.path, "c.log"), text);
  const { relay } = relayWith();

  relay.follow(
    request(folder.path, {
      sinks: [{ type: "sandbox" }, { type: "syslog", transport: "tcp", address: `127.0.0.1:${port}`, appName: "a".repeat(60) }],
    }),
  );
  await waitFor(() => readFileSync(join(folder.path, "stdout"), "utf8").endsWith("line 1999\n"));
  let got = "";
  const sockets: Socket[] = [];
  const server = createServer((peer) => {
    sockets.push(peer);
    peer.setEncoding("utf8").on("data", (data) => {
      got += data;
    });
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  await waitFor(() => got.endsWith("line 1999"));

  assert.match(got, new RegExp(`^\\d+ <14>1 2026-01-01T\\S+Z host1 ${"a".repeat(48)} - stdout - line 0\\d+ <14>1`));
  const statistics = await relay.stop({ ...drain, deadline: soon() });
  assert.deepEqual(statistics?.sinks[1]?.dropped, {});
  assert.equal(statistics?.sinks[1]?.sent, 2_000);
  relay.close();
  for (const peer of sockets) peer.destroy();
  await new Promise((resolve) => server.close(resolve));
});

test("a full queue drops and counts; the container's file is read on", async () => {
  await using folder = await tempDir("lr");
  writeFileSync(join(folder.path, "c.log"), Array.from({ length: 5_000 }, () => record(`${"x".repeat(200)}\n`)).join(""));
  const { relay } = relayWith();
  const sinks: FollowRequest["sinks"] = [
    { type: "logstash", transport: "tcp", addresses: [`127.0.0.1:${await freePort()}`], queueBytes: 100_000 },
  ];

  relay.follow(request(folder.path, { sinks }));
  await waitFor(() => relay.stats().tasks[0]?.lagBytes === 0);

  const statistics = await relay.stop({ ...drain, deadline: Date.now() + 300 });
  const dropped = Object.values(statistics?.sinks[0]?.dropped ?? {}).reduce((sum, count) => sum + count, 0);
  assert.equal(dropped + (statistics?.sinks[0]?.left ?? 0), 5_000);
  assert.ok((statistics?.sinks[0]?.dropped["receiver away"] ?? 0) > 0);
  relay.close();
});

test("pushed bytes survive whatever they are, and pipes get them as output", async () => {
  await using folder = await tempDir("lr");
  const { relay, told } = relayWith();
  const sandbox = { stdoutPath: join(folder.path, "stdout"), stderrPath: join(folder.path, "stderr"), writable: false };
  relay.follow(
    request(folder.path, {
      source: { kind: "pushed" },
      sandbox,
      sinks: [{ type: "sandbox" }, { type: "file", path: join(folder.path, "f") }],
    }),
  );
  await waitFor(() => relay.stats().tasks.length === 1);

  relay.push({ taskKey: "t", stream: "stdout", bytes: Buffer.from([0xff, 0xfe, 0x00, 10, 0x41]) });
  relay.push({ taskKey: "t", stream: "stdout", bytes: Buffer.from("B\nend") });
  const stopped = relay.stop({ ...drain, deadline: soon() });
  await waitFor(() => {
    for (const { id } of told.output) relay.outputTaken({ id });
    return Buffer.concat(told.output.map(({ bytes }) => bytes)).includes("end");
  });
  for (const { id } of told.output) relay.outputTaken({ id });
  const statistics = await stopped;

  const expected = Buffer.concat([Buffer.from([0xff, 0xfe, 0x00, 10]), Buffer.from("AB\nend\n")]);
  assert.deepEqual(readFileSync(join(folder.path, "f")), expected);
  assert.deepEqual(Buffer.concat(told.output.map(({ bytes }) => bytes)), expected);
  assert.deepEqual([statistics?.sinks[0]?.sent, statistics?.sinks[0]?.dropped], [3, {}]);
  relay.close();
});

test("long lines are cut with a mark, stack traces joined", async () => {
  await using folder = await tempDir("lr");
  writeFileSync(
    join(folder.path, "c.log"),
    record("start one\n") +
      record("  at x\n") +
      record("  at y\n") +
      record("start two\n") +
      record(`start ${"z".repeat(100)}\n`) +
      record("start end\n"),
  );
  const { relay } = relayWith();
  relay.follow(
    request(folder.path, {
      sinks: [{ type: "file", path: join(folder.path, "f"), format: "json" }],
      options: { multiLine: { start: "^start" }, maxLineBytes: 40 },
    }),
  );
  await waitFor(() => relay.stats().tasks[0]?.lagBytes === 0);
  const statistics = await relay.stop({ ...drain, deadline: soon() });
  relay.close();

  const payloads = readFileSync(join(folder.path, "f"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => (JSON.parse(line) as { Payload: string }).Payload);
  assert.deepEqual(payloads, ["start one\n  at x\n  at y", "start two", `start ${"z".repeat(34)}[cut: 66 more bytes]`, "start end"]);
  assert.equal(statistics?.cut, 1);
});

test("a file sink with a plain name writes to the sandbox, both streams in one, and follows no link out of it", async () => {
  await using folder = await tempDir("lr");
  writeFileSync(join(folder.path, "c.log"), record("one\n") + record("two\n", "stderr"));
  const { symlinkSync } = await import("node:fs");
  symlinkSync(join(folder.path, "victim"), join(folder.path, "link.log"));
  const { relay } = relayWith();

  relay.follow(
    request(folder.path, {
      sinks: [
        { type: "file", path: "all.log" },
        { type: "file", path: "link.log" },
      ],
    }),
  );
  const statistics = await relay.stop({ ...drain, deadline: soon() });
  relay.close();

  assert.equal(readFileSync(join(folder.path, "all.log"), "utf8"), "one\ntwo\n");
  assert.throws(() => readFileSync(join(folder.path, "victim")));
  assert.equal(statistics?.sinks[1]?.dropped["cannot be written"], 2);
});

test("nothing is appended to what a task has linked into its sandbox", async () => {
  await using folder = await tempDir("lr");
  writeFileSync(join(folder.path, "c.log"), record("one\n") + record("two\n"));
  writeFileSync(join(folder.path, "passwd"), "");
  linkSync(join(folder.path, "passwd"), join(folder.path, "all.log"));
  const { relay } = relayWith();

  relay.follow(request(folder.path, { sinks: [{ type: "file", path: "all.log" }] }));
  const statistics = await relay.stop({ ...drain, deadline: soon() });
  relay.close();

  assert.equal(readFileSync(join(folder.path, "passwd"), "utf8"), "");
  assert.equal(statistics?.sinks[0]?.dropped["cannot be written"], 2);
  assert.match(statistics?.sinks[0]?.problem ?? "", /another name/);
});

test("a file of which no old ones are kept begins anew at its size; what cannot be rotated is written on", async () => {
  await using folder = await tempDir("lr");
  const line = (i: number): string => `${i} ${"x".repeat(99)}\n`;
  writeFileSync(join(folder.path, "c.log"), Array.from({ length: 3_000 }, (_, i) => record(line(i))).join(""));
  mkdirSync(join(folder.path, "kept.log.1"));
  const { relay } = relayWith();

  relay.follow(
    request(folder.path, {
      sinks: [
        { type: "file", path: "none.log", maxBytes: 60_000, keep: 0 },
        { type: "file", path: "kept.log", maxBytes: 60_000, keep: 1 },
      ],
    }),
  );
  const statistics = await relay.stop({ ...drain, deadline: soon() });
  relay.close();

  assert.ok(statSync(join(folder.path, "none.log")).size <= 60_000);
  assert.match(readFileSync(join(folder.path, "none.log"), "utf8"), new RegExp(`${line(2_999)}$`));
  assert.equal(readFileSync(join(folder.path, "kept.log"), "utf8").split("\n").length, 3_001);
  assert.deepEqual(
    statistics?.sinks.map(({ sent }) => sent),
    [3_000, 3_000],
  );
});

test("a sandbox file is rotated at its size, and a symbolic link is refused", async () => {
  await using folder = await tempDir("lr");
  mkdirSync(join(folder.path, "victim"));
  writeFileSync(join(folder.path, "c.log"), Array.from({ length: 3_000 }, () => record(`${"x".repeat(99)}\n`)).join(""));
  symlinkSync(join(folder.path, "victim/file"), join(folder.path, "stderr"));
  appendFileSync(join(folder.path, "c.log"), record("to a link\n", "stderr"));
  const { relay } = relayWith();

  relay.follow(request(folder.path, { sinks: [{ type: "sandbox", maxBytes: 60_000, keep: 2 }] }));
  await waitFor(() => relay.stats().tasks[0]?.lagBytes === 0);
  const statistics = await relay.stop({ ...drain, deadline: soon() });
  relay.close();

  assert.ok(statSync(join(folder.path, "stdout")).size <= 60_000);
  assert.ok(statSync(join(folder.path, "stdout.2")).size <= 60_000);
  assert.throws(() => statSync(join(folder.path, "stdout.3")));
  assert.throws(() => statSync(join(folder.path, "victim/file")));
  assert.equal(statistics?.sinks[0]?.dropped["cannot be written"], 1);
});

test("last logs copy what is newer, the end of it where it is too much, and tell the last lines", async () => {
  await using folder = await tempDir("lr");
  const path = join(folder.path, "c.log");
  writeFileSync(path, Array.from({ length: 100 }, (_, i) => record(`old ${i}\n`)).join(""));
  const since = clock + 1;
  appendFileSync(path, record("new 1\n") + record("new 2\n", "stderr") + record("no end"));
  const { relay } = relayWith();
  const { source, sandbox } = request(folder.path);
  assert.ok(sandbox);

  const first = await relay.lastLogs({ taskKey: "t", source, sandbox, since, alreadyInSandbox: false, lines: 2 });
  assert.deepEqual(first, { lines: ["new 2", "no end"], written: 19, truncated: false });
  assert.equal(readFileSync(sandbox.stdoutPath, "utf8"), "new 1\nno end\n");
  assert.equal(readFileSync(sandbox.stderrPath, "utf8"), "new 2\n");

  const second = await relay.lastLogs({ taskKey: "t", source, sandbox, since: 0, maxBytes: 20, alreadyInSandbox: false });
  assert.equal(second.truncated, true);
  assert.match(readFileSync(sandbox.stdoutPath, "utf8"), /left out.*\nnew 1\nno end\n$/);
  const gone = await relay.lastLogs({
    taskKey: "t",
    source: { kind: "json-file", path: "/nowhere/x" },
    sandbox,
    since,
    alreadyInSandbox: false,
  });
  assert.match(gone.problem ?? "", /ENOENT/);
  relay.close();
});

test("the last lines of a command task are those at the end of its files, however long these are", async () => {
  await using folder = await tempDir("lr");
  const [stdoutPath, stderrPath] = [join(folder.path, "stdout"), join(folder.path, "stderr")];
  const ask = { taskKey: "t", source: { kind: "text", stdoutPath, stderrPath }, since: 0, alreadyInSandbox: true } as const;
  const { relay } = relayWith();
  const sandbox = { stdoutPath, stderrPath, writable: true };
  assert.deepEqual((await relay.lastLogs({ ...ask, sandbox })).lines, []);
  // A terabyte without a line feed.
  writeFileSync(stdoutPath, "");
  truncateSync(stdoutPath, 2 ** 40);
  appendFileSync(stdoutPath, `\n${"z".repeat(20_000)}\n\nlast but one\nlast`);
  writeFileSync(stderrPath, "\nerror 1\nerror 2\n");

  const { lines } = await relay.lastLogs({ ...ask, sandbox, lines: 4 });
  const { lines: more } = await relay.lastLogs({ ...ask, sandbox });

  assert.deepEqual(lines, ["last but one", "last", "error 1", "error 2"]);
  assert.deepEqual(more, ["z".repeat(16 * 1024), ...lines]);
  relay.close();
});

test("what is newer is found in a large log without reading what is older", async () => {
  await using folder = await tempDir("lr");
  const { source, sandbox } = request(folder.path);
  const path = join(folder.path, "c.log");
  // Had it been read, it would be there: a line is not looked at for its time once one was new enough.
  const before = record("new, but before the old\n").replace("2026", "2027");
  const old = Array.from({ length: 40_000 }, (_, i) => record(`old ${i} ${"x".repeat(100)}\n`)).join("");
  clock += 60_000;
  const since = clock + 1;
  const recent = Array.from({ length: 100 }, (_, i) => record(`new ${i}\n`)).join("");
  writeFileSync(path, before + old + recent);
  const { relay } = relayWith();
  assert.ok(sandbox);

  const last = await relay.lastLogs({ taskKey: "t", source, sandbox, since, alreadyInSandbox: false });
  relay.close();

  assert.equal(last.truncated, false);
  assert.equal(readFileSync(sandbox.stdoutPath, "utf8"), Array.from({ length: 100 }, (_, i) => `new ${i}\n`).join(""));
});

test("of millions of empty lines none costs an object of its own", { timeout: 60_000 }, async () => {
  const lines = 2_000_000;
  const output = new LastOutput(1_000_000);
  const before = process.memoryUsage().heapUsed;
  const [empty, other] = [Buffer.from("\n"), Buffer.from("x\n")];
  for (let i = 0; i < lines; i++) output.add(i % 2 === 0 ? "stdout" : "stderr", i % 2 === 0 ? empty : other);

  assert.ok(process.memoryUsage().heapUsed - before < 50 * 1024 * 1024);
  assert.ok(output.truncated);
  assert.ok(Math.abs(output.of("stdout").length - 333_333) <= 1);
  assert.equal(output.of("stderr").toString(), "x\n".repeat(output.of("stderr").length / 2));
});

test("what a task puts in the place of its output is not read: symbolic links, FIFOs, folders, also under names of rotated files", async () => {
  await using folder = await tempDir("lr");
  const secret = join(folder.path, "secret");
  writeFileSync(secret, "root:$6$secret\n");
  writeFileSync(`${secret}.gz`, gzipSync("root:$6$secret\n"));
  const sandbox = { stdoutPath: join(folder.path, "stdout"), stderrPath: join(folder.path, "stderr"), writable: true };
  const source = { kind: "text", stdoutPath: sandbox.stdoutPath, stderrPath: sandbox.stderrPath } as const;
  const { relay } = relayWith();
  const last = (): Promise<LastLogs> => relay.lastLogs({ taskKey: "t", source, sandbox, since: 0, alreadyInSandbox: true });

  symlinkSync(secret, sandbox.stdoutPath);
  writeFileSync(sandbox.stderrPath, "own words\n");
  assert.match((await last()).problem ?? "", /stdout is not a regular file and is not read/);
  await assert.rejects(relay.readOpen({ source }), /stdout is not a regular file and is not read/);
  rmSync(sandbox.stdoutPath);
  await promisify(execFile)("mkfifo", [sandbox.stdoutPath]);
  assert.match((await last()).problem ?? "", /stdout is not a regular file and is not read/);
  rmSync(sandbox.stdoutPath);
  mkdirSync(sandbox.stdoutPath);
  assert.match((await last()).problem ?? "", /stdout is not a regular file and is not read/);
  rmSync(sandbox.stdoutPath, { recursive: true });

  writeFileSync(sandbox.stdoutPath, "live\n");
  symlinkSync(secret, `${sandbox.stdoutPath}.1`);
  symlinkSync(`${secret}.gz`, `${sandbox.stdoutPath}.2.gz`);
  await promisify(execFile)("mkfifo", [`${sandbox.stdoutPath}.3`]);
  await promisify(execFile)("mkfifo", [`${sandbox.stdoutPath}.4.gz`]);
  assert.deepEqual(await last(), { lines: ["live", "own words"], written: 0, truncated: false });
  relay.close();
});

test("a packed part that cannot be unpacked is a counted gap", async () => {
  await using folder = await tempDir("lr");
  writeFileSync(join(folder.path, "c.log.2.gz"), gzipSync(record("oldest\n")));
  writeFileSync(join(folder.path, "c.log.1.gz"), "this was never packed");
  writeFileSync(join(folder.path, "c.log"), record("newest\n"));
  const { relay } = relayWith();
  relay.follow(request(folder.path));
  await waitFor(() => relay.stats().tasks[0]?.lines === 2);
  const statistics = await relay.stop({ ...drain, deadline: soon() });
  relay.close();

  assert.equal(readFileSync(join(folder.path, "stdout"), "utf8"), "oldest\nnewest\n");
  assert.deepEqual([statistics?.gaps, statistics?.lastGap?.includes("c.log.1.gz cannot be unpacked")], [1, true]);
});

test("reading along a sandbox shows no file by a hard link, and unpacks no more than is good for the other tasks", async () => {
  await using folder = await tempDir("lr");
  const secret = join(folder.path, "secret");
  const stdoutPath = join(folder.path, "stdout");
  writeFileSync(secret, "secret\n");
  linkSync(secret, `${stdoutPath}.3`);
  writeFileSync(`${stdoutPath}.2.gz`, gzipSync(Buffer.alloc(20 * 1024 * 1024, "bomb\n")));
  const liar = gzipSync("short\n");
  liar.writeUInt32LE(1_000_000, liar.length - 4);
  writeFileSync(`${stdoutPath}.1.gz`, liar);
  writeFileSync(stdoutPath, "own\n");
  const { relay } = relayWith();

  const id = await relay.readOpen({ source: { kind: "text", stdoutPath, stderrPath: join(folder.path, "stderr") }, tail: 10 });
  const lines = await relay.readNext({ id });
  relay.readClose({ id });

  assert.deepEqual(
    lines.map(({ bytes }) => Buffer.from(bytes).toString()),
    ["own"],
  );
  rmSync(stdoutPath);
  linkSync(secret, stdoutPath);
  await assert.rejects(relay.readOpen({ source: { kind: "text", stdoutPath, stderrPath: join(folder.path, "stderr") } }), /another name/);
  relay.close();
});

test("files that are gone before anybody looked are counted; one that was seen is read to its end all the same", async () => {
  await using folder = await tempDir("lr");
  const path = join(folder.path, "c.log");
  writeFileSync(path, record("seen\n"));
  const { relay, told } = relayWith();
  relay.follow(request(folder.path));
  await waitFor(() => told.positions.size === 1);
  // Two rotations with max-file=2 in one moment: the second file is never seen.
  appendFileSync(path, record("seen to its end\n"));
  rmSync(path);
  writeFileSync(`${path}.1`, record("later\n"));
  writeFileSync(path, record("last\n"));
  await waitFor(() => relay.stats().tasks[0]?.lines === 4);
  const statistics = await relay.stop({ ...drain, deadline: soon() });
  relay.close();

  assert.equal(readFileSync(join(folder.path, "stdout"), "utf8"), "seen\nseen to its end\nlater\nlast\n");
  assert.deepEqual(
    [statistics?.gaps, statistics?.lastGap],
    [1, "the log was rotated faster than it could be read, and Docker deleted some of it"],
  );
});

test("the sinks are never given more than 64 KiB beyond the position that is held", async () => {
  await using folder = await tempDir("lr");
  const text = Array.from({ length: 20_000 }, (_, i) => record(`line ${i} ${"x".repeat(40)}\n`)).join("");
  writeFileSync(join(folder.path, "c.log"), text);
  const held: Array<() => void> = [];
  const slow = new LogRelay(
    { docker },
    {
      positions: () => new Promise((resolve) => held.push(resolve)),
      output: () => {},
      problem: () => {},
      log: () => {},
    },
  );
  const written = (): number => statSync(join(folder.path, "stdout"), { throwIfNoEntry: false })?.size ?? 0;

  slow.follow(request(folder.path));
  let before = 0;
  for (let round = 0; round < 5; round++) {
    await waitFor(() => held.length === 1);
    // More would come at once if nothing held it back.
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
    assert.ok(written() - before <= 64 * 1024, `${written() - before} bytes beyond the position`);
    assert.ok(written() > before);
    before = written();
    held.shift()?.();
  }
  const release = setInterval(() => held.shift()?.(), 1);
  await waitFor(() => slow.stats().tasks[0]?.lagBytes === 0);
  const stopped = await slow.stop({ ...drain, deadline: soon() });
  clearInterval(release);
  slow.close();

  assert.equal(stopped?.lines, 20_000);
});

test("nor are they of the two files of a command task", async () => {
  await using folder = await tempDir("lr");
  const [stdoutPath, stderrPath] = [join(folder.path, "stdout"), join(folder.path, "stderr")];
  for (const path of [stdoutPath, stderrPath]) writeFileSync(path, "");
  const held: Array<() => void> = [];
  const events = {
    positions: () => new Promise<void>((resolve) => held.push(resolve)),
    output: () => {},
    problem: () => {},
    log: () => {},
  };
  const slow = new LogRelay({ docker }, events);
  const source = { kind: "text", stdoutPath, stderrPath } as const;
  slow.follow(request(folder.path, { source, sinks: [{ type: "file", path: "all" }] }));
  await waitFor(() => slow.stats().tasks.length === 1);
  const write = (length: number): void => {
    const bytes = Buffer.from(`${"x".repeat(63)}\n`.repeat(length / 64));
    for (const path of [stdoutPath, stderrPath]) appendFileSync(path, bytes);
  };

  write(64);
  await waitFor(() => held.length === 1);
  write(65_536);
  write(65_536);
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  await waitFor(() => statSync(join(folder.path, "all")).size > 128);
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));

  const { size } = statSync(join(folder.path, "all"));
  assert.ok(size <= 64 * 1024, `${size} bytes beyond the position`);
  slow.close();
});

test("zeros in the middle of a log file, as after a loss of power, cost no other line", async () => {
  await using folder = await tempDir("lr");
  const torn = record("torn \t off\n").replace("off", `${"\0".repeat(100)}off`);
  writeFileSync(join(folder.path, "c.log"), record("one\n") + torn + record("three\n"));
  const { relay } = relayWith();

  relay.follow(request(folder.path));
  const statistics = await relay.stop({ ...drain, deadline: soon() });
  relay.close();

  assert.equal(statistics?.lines, 3);
  assert.match(readFileSync(join(folder.path, "stdout"), "utf8"), /^one\ntorn .*off\nthree\n$/);
});

test("a task that ends before its output was read for the first time loses none of it", async () => {
  await using folder = await tempDir("lr");
  writeFileSync(join(folder.path, "c.log"), record("all of it\n"));
  const { relay } = relayWith();
  relay.follow(request(folder.path));

  assert.equal((await relay.stop({ ...drain, deadline: soon() }))?.lines, 1);
  assert.equal(readFileSync(join(folder.path, "stdout"), "utf8"), "all of it\n");
  relay.close();
});

test("a worker that does not take its output holds the position back, and the source; nothing is lost", async () => {
  await using folder = await tempDir("lr");
  writeFileSync(join(folder.path, "c.log"), Array.from({ length: 5_000 }, (_, i) => record(`line ${i} ${"x".repeat(80)}\n`)).join(""));
  const { relay, told } = relayWith();
  const sandbox = { stdoutPath: join(folder.path, "stdout"), stderrPath: join(folder.path, "stderr"), writable: false };
  const given = (): string => Buffer.concat(told.output.map(({ bytes }) => bytes)).toString();

  relay.follow(request(folder.path, { sandbox }));
  await waitFor(() => told.output.length === 1);
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(told.output.length, 1);
  assert.equal(told.positions.size, 0);
  assert.ok((relay.stats().tasks[0]?.bytes ?? 0) <= 128 * 1024);
  const stopped = relay.stop({ ...drain, deadline: soon() });
  await waitFor(() => {
    for (const { id } of told.output) relay.outputTaken({ id });
    return given().includes("line 4999");
  });
  for (const { id } of told.output) relay.outputTaken({ id });

  assert.deepEqual((await stopped)?.sinks[0]?.dropped, {});
  assert.equal(given().match(/^line \d+/gm)?.length, 5_000);
  relay.close();
});

test("what a task that is handed over had given to nobody yet is not told as delivered", async () => {
  await using folder = await tempDir("lr");
  writeFileSync(join(folder.path, "c.log"), Array.from({ length: 5_000 }, (_, i) => record(`line ${i}\n`)).join(""));
  const { relay, told } = relayWith();
  const slow = { type: "json-udp", address: `127.0.0.1:${await freePort()}`, rate: 1 } as const;
  relay.follow(request(folder.path, { sinks: [slow] }));
  await waitFor(() => (relay.stats().tasks[0]?.sinks[0]?.queuedBytes ?? 0) >= 64 * 1024);

  await relay.stop({ taskKey: "t", drain: false, deadline: soon() });
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
  relay.close();

  assert.equal(told.positions.size, 0);
});

test("a task's end reads all of its output although a receiver takes nothing just now", async () => {
  await using folder = await tempDir("lr");
  writeFileSync(join(folder.path, "c.log"), Array.from({ length: 5_000 }, (_, i) => record(`line ${i}\n`)).join(""));
  const { relay } = relayWith();
  const slow = { type: "json-udp", address: `127.0.0.1:${await freePort()}`, rate: 1 } as const;
  relay.follow(request(folder.path, { sinks: [slow] }));
  await waitFor(() => (relay.stats().tasks[0]?.sinks[0]?.queuedBytes ?? 0) >= 64 * 1024);

  const stopped = await relay.stop({ ...drain, deadline: Date.now() + 4_000 });
  relay.close();

  assert.equal(stopped?.lines, 5_000);
  assert.equal(stopped?.gaps, 0);
  const { sent = 0, left = 0, dropped } = stopped?.sinks[0] ?? {};
  assert.deepEqual([sent + left, dropped], [5_000, {}]);
});

test("a task's end goes on at the pace of a worker that is slow but takes its output", async () => {
  await using folder = await tempDir("lr");
  const line = `${"x".repeat(990)}\n`;
  writeFileSync(join(folder.path, "c.log"), Array.from({ length: 12_000 }, () => record(line)).join(""));
  const { relay, told } = relayWith();
  const sandbox = { stdoutPath: join(folder.path, "stdout"), stderrPath: join(folder.path, "stderr"), writable: false };
  relay.follow(request(folder.path, { sandbox }));
  const worker = setInterval(() => {
    const next = told.output.shift();
    if (next !== undefined) relay.outputTaken(next);
  }, 15);

  const stopped = await relay.stop({ ...drain, deadline: soon() }).finally(() => clearInterval(worker));
  relay.close();

  assert.deepEqual([stopped?.sinks[0]?.sent, stopped?.sinks[0]?.dropped], [12_000, {}]);
});

test("last output of more than the worker is given at a time comes whole by pipe, and is given before the answer", async () => {
  await using folder = await tempDir("lr");
  writeFileSync(join(folder.path, "c.log"), Array.from({ length: 60_000 }, (_, i) => record(`line ${i} ${"x".repeat(80)}\n`)).join(""));
  const { relay, told } = relayWith();
  const { source } = request(folder.path);
  const sandbox = { stdoutPath: join(folder.path, "stdout"), stderrPath: join(folder.path, "stderr"), writable: false };
  const taking = setInterval(() => {
    for (const { id } of told.output) relay.outputTaken({ id });
  }, 1);

  const last = await relay.lastLogs({ taskKey: "t", source, sandbox, since: 0, alreadyInSandbox: false });
  clearInterval(taking);
  relay.close();

  const bytes = Buffer.concat(told.output.map((output) => output.bytes));
  assert.equal(last.problem, undefined);
  assert.equal(last.written, bytes.length);
  assert.equal(bytes.toString().match(/^line \d+/gm)?.length, 60_000);
});

test("reading: the last lines, then what comes", async () => {
  await using folder = await tempDir("lr");
  const path = join(folder.path, "c.log");
  writeFileSync(path, Array.from({ length: 5_000 }, (_, i) => record(`l ${i}\n`)).join(""));
  const { relay } = relayWith();
  const texts = (lines: Array<{ bytes: Uint8Array }>): string[] => lines.map(({ bytes }) => Buffer.from(bytes).toString());

  const id = await relay.readOpen({ source: { kind: "json-file", path }, tail: 2, follow: true });
  assert.deepEqual(texts(await relay.readNext({ id })), ["l 4998", "l 4999"]);
  setTimeout(() => appendFileSync(path, record("later\n")), 30);
  assert.deepEqual(texts(await relay.readNext({ id })), ["later"]);
  relay.readClose({ id });
  relay.close();
});
