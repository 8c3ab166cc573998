import assert from "node:assert/strict";
import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { freePort, type LogSink, startLogSink, startProcess, tempDir, waitFor } from "@berth/test-harness";
import { LogRelay } from "./relay.ts";
import type { SinkConfig } from "./types.ts";

const COUNT = 3_000;

function relay(): LogRelay {
  const events = { positions: () => undefined, output: () => {}, problem: () => {}, log: () => {} };
  return new LogRelay({ docker: { url: "unix:///nowhere", socketPath: "/nowhere" } }, events);
}

function logFile(folder: string): string {
  const path = join(folder, "c.log");
  const line = (number: number): string =>
    `{"log":"zażółć n ${number} \\u003c\\n","stream":"stdout","time":"2026-11-21T07:00:${10 + (number % 50)}.123456789Z"}\n`;
  writeFileSync(path, Array.from({ length: COUNT }, (_, number) => line(number)).join(""));
  return path;
}

async function send(path: string, sinks: SinkConfig[]): Promise<LogRelay> {
  const opened = relay();
  const source = { kind: "json-file", path } as const;
  opened.follow({ taskKey: "t", source, sinks, fields: { ServiceName: "svc" }, hostname: "host1" });
  return opened;
}

test("rsyslog takes the JSON datagrams and Logstash's lines, all of them", async () => {
  await using folder = await tempDir("lr");
  await using sink = await startLogSink();
  const address = `127.0.0.1:${sink.port}`;

  const opened = await send(logFile(folder.path), [
    { type: "json-udp", address },
    { type: "logstash", transport: "tcp", addresses: [address] },
  ]);
  await waitFor(async () => (await sink.events()).length === 2 * COUNT);

  const events = await sink.events();
  assert.deepEqual(await sink.bad(), []);
  const udp = events.filter(({ input }) => input === "imudp").map(({ event }) => event.Payload);
  const tcp = events.filter(({ input }) => input === "imtcp").map(({ event }) => event.message);
  const expected = Array.from({ length: COUNT }, (_, number) => `zażółć n ${number} <`);
  assert.deepEqual(udp, expected);
  assert.deepEqual(tcp, expected);
  opened.close();
});

test("an rsyslog that is killed and started again while lines come loses none", async () => {
  await using folder = await tempDir("lr");
  const port = await freePort();
  await using first = await startLogSink({ port });
  const opened = relay();
  const sinks: SinkConfig[] = [{ type: "logstash", transport: "tcp", addresses: [`127.0.0.1:${port}`] }];
  const path = join(folder.path, "c.log");
  writeFileSync(path, "");
  opened.follow({ taskKey: "t", source: { kind: "json-file", path }, sinks, fields: {}, hostname: "h" });
  let written = 0;
  const write = (): void => {
    const line = (): string => `{"log":"${written++}\\n","stream":"stdout","time":"2026-11-21T07:00:47Z"}\n`;
    appendFileSync(path, Array.from({ length: 50 }, line).join(""));
  };
  const numbers = async (sink: LogSink): Promise<number[]> => (await sink.events()).map(({ event }) => Number(event.message));
  await waitFor(async () => {
    write();
    return (await numbers(first)).length > 500;
  });
  const sent = opened.stats().totals.sinks.logstash?.sent ?? 0;
  first.process.kill("SIGKILL");
  await waitFor(() => {
    write();
    return /tcp /.test(opened.stats().tasks[0]?.sinks[0]?.problem ?? "");
  });
  assert.ok(sent > 0);
  const early = await numbers(first);
  await using second = await startLogSink({ port });
  write();

  await waitFor(async () => new Set([...early, ...(await numbers(second))]).size === written, { what: "all numbers" });
  assert.deepEqual(opened.stats().tasks[0]?.sinks[0]?.dropped, {});
  opened.close();
});

test("rsyslog parses RFC 5424 by UDP, TCP with octet counts and a unix socket", async () => {
  await using folder = await tempDir("lr");
  const port = await freePort();
  const config = `module(load="imudp") module(load="imtcp") module(load="imuxsock" SysSock.Use="off")
global(workDirectory="${folder.path}" parser.escapeControlCharactersOnReceive="off")
template(name="t" type="string" string="%inputname%|%pri%|%protocol-version%|%timereported:::date-rfc3339%|%hostname%|%app-name%|%msgid%|%msg%\\n")
ruleset(name="r") { action(type="omfile" file="${folder.path}/out" template="t" flushOnTXEnd="on") }
input(type="imudp" address="127.0.0.1" port="${port}" ruleset="r" rcvbufSize="4m")
input(type="imtcp" address="127.0.0.1" port="${port}" ruleset="r")
input(type="imuxsock" Socket="${folder.path}/s" ruleset="r" UseSpecialParser="off" ParseHostname="on" UseSysTimeStamp="off" RateLimit.Interval="0")
`;
  writeFileSync(join(folder.path, "rsyslog.conf"), config);
  await using server = await startProcess({
    name: "rsyslogd",
    command: "/usr/sbin/rsyslogd",
    args: ["-n", "-iNONE", "-f", join(folder.path, "rsyslog.conf")],
    ready: () => existsSync(join(folder.path, "s")),
  });
  const address = `127.0.0.1:${port}`;

  const opened = await send(logFile(folder.path), [
    { type: "syslog", transport: "udp", address },
    { type: "syslog", transport: "tcp", address },
    { type: "syslog", transport: "unix", path: join(folder.path, "s") },
  ]);
  const lines = (): string[] =>
    existsSync(join(folder.path, "out")) ? readFileSync(join(folder.path, "out"), "utf8").trimEnd().split("\n") : [];
  await waitFor(() => lines().length >= 3 * COUNT, { what: "all messages" });

  for (const input of ["imudp", "imtcp", "imuxsock"]) {
    const got = lines().filter((line) => line.startsWith(`${input}|`));
    assert.equal(got.length, COUNT, input);
    const [, pri, version, time, ...rest] = got[7]?.split("|") ?? [];
    assert.deepEqual([pri, version, ...rest], ["14", "1", "host1", "svc", "stdout", "zażółć n 7 <"]);
    // rsyslog puts its own clock into what comes by a unix socket.
    if (input !== "imuxsock") assert.equal(time, "2026-11-21T07:00:17.123456Z");
  }
  assert.ok(server.running());
  opened.close();
});
