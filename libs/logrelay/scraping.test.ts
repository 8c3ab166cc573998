/** Log scraping, rule by rule: what a line becomes, and what becomes of lines that are no events. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { tempDir, waitFor } from "@berth/test-harness";
import type { Line } from "./line.ts";
import { logstashRecord, type ScrapeDrop } from "./logstash-record.ts";
import { FrameWriter } from "./records.ts";
import { LogRelay } from "./relay.ts";
import type { FollowRequest, ScrapeOptions, TaskLogStatistics } from "./types.ts";

const TIME = "2026-11-21T07:00:47.5Z";
const HEAD = `"@timestamp":"${TIME}","@version":1,"message":`;

function lineOf(text: string | Buffer): Line {
  const buffer = Buffer.from(text as string);
  return { buffer, start: 0, end: buffer.length, kind: "raw", stream: "stdout", time: TIME, offset: 0 };
}

interface Scraped {
  records: string[];
  dropped: ScrapeDrop[];
}

function scrape(
  lines: Array<string | Buffer>,
  options: Partial<ScrapeOptions> = {},
  labels: Record<string, string> = {},
  now: () => number = () => 0,
): Scraped {
  const dropped: ScrapeDrop[] = [];
  const format = logstashRecord(
    labels,
    "h",
    { format: "logstash", all: false, ignoredKeys: [], ...options },
    (reason) => dropped.push(reason),
    now,
  );
  const writer = new FrameWriter();
  for (const line of lines) format(lineOf(line), writer);
  writer.end();
  const text = writer.take().bytes.toString("utf8");
  return { records: text.split("\n").slice(0, -1), dropped };
}

function one(line: string | Buffer, options?: Partial<ScrapeOptions>, labels?: Record<string, string>): string | undefined {
  const { records } = scrape([line], options, labels);
  assert.ok(records.length <= 1);
  if (records[0] !== undefined) JSON.parse(records[0]);
  return records[0];
}

describe("JSON lines", () => {
  const cases: Array<[what: string, line: string, expected: string]> = [
    [
      "time and msg are renamed, the rest stays",
      '{"time":"T","msg":"m","level":"WARN"}',
      '{"@timestamp":"T","@version":1,"message":"m","level":"WARN"}',
    ],
    ["without them the line's time, and null", '{"a":1}', `{${HEAD}null,"a":1}`],
    [
      "numbers keep their text",
      '{"a":12345678901234567890,"b":1.50,"c":1e400,"d":-0,"e":1E+2,"f":0.1e-7}',
      `{${HEAD}null,"a":12345678901234567890,"b":1.50,"c":1e400,"d":-0,"e":1E+2,"f":0.1e-7}`,
    ],
    ["a number as time and msg", '{"time":1700000000.25,"msg":1.0}', '{"@timestamp":1700000000.25,"@version":1,"message":1.0}'],
    [
      "what is nested stays as it is written",
      '{"o":{"msg":"inner","n":[1.0,{"time":2.50}]},"s":"a,b:}{\\"]"}',
      `{${HEAD}null,"o":{"msg":"inner","n":[1.0,{"time":2.50}]},"s":"a,b:}{\\"]"}`,
    ],
    ["the last of two equal keys", '{"a":1,"b":2,"a":3,"msg":"x","msg":"y"}', `{${HEAD}"y","a":3,"b":2}`],
    ["null is an event without members", "null", `{${HEAD}null}`],
    ["so is an empty object", " { } ", `{${HEAD}null}`],
    [
      "the application's own Logstash names win",
      '{"@timestamp":"A","@version":"2","message":"M","time":"T","msg":"m"}',
      '{"@timestamp":"A","@version":"2","message":"M"}',
    ],
    [
      "escapes in keys and values",
      '{"k\\u0065y \\"q\\"":"\\u00e9\\n\\ud83d\\ude00"}',
      `{${HEAD}null,"key \\"q\\"":"\\u00e9\\n\\ud83d\\ude00"}`,
    ],
    ["half a surrogate", '{"a\\ud800":"\\ud800"}', `{${HEAD}null,"a\\ud800":"\\ud800"}`],
    ["__proto__ is a key like others", '{"__proto__":{"x":1},"constructor":2}', `{${HEAD}null,"__proto__":{"x":1},"constructor":2}`],
    ["space around everything, and a carriage return", '\t{ "a" : 1.0 , "b" : [ 1 , 2 ] }\r', `{${HEAD}null,"a":1.0,"b":[ 1 , 2 ]}`],
    ["lines that were joined stay one record", '{\n "a": {\n  "b": 1.0\r\n },\n "msg": "m"\n}', `{${HEAD}"m","a":{   "b": 1.0  }}`],
    ["true, false, null as values", '{"a":true,"b":false,"c":null}', `{${HEAD}null,"a":true,"b":false,"c":null}`],
  ];
  for (const [what, line, expected] of cases) test(what, () => assert.equal(one(line), expected));

  test("bytes that are no UTF-8 become replacement characters", () => {
    const line = Buffer.concat([Buffer.from('{"msg":"a'), Buffer.from([0xff, 0xc3]), Buffer.from('b"}')]);
    assert.equal(one(line), `{${HEAD}"a\ufffd\ufffdb"}`);
  });
});

describe("lines that are no events", () => {
  const none = ["plain", "", "   ", "1", '"text"', "[1]", "true", '{"a":1', '{"a":01}', '{"a":NaN}', '{"a":1} x', "{'a':1}", '{"a":1,}'];
  for (const line of none) {
    test(`${JSON.stringify(line)} is left out and counted`, () => {
      assert.deepEqual(scrape([line]), { records: [], dropped: ["no event"] });
    });

    test(`${JSON.stringify(line)} is wrapped with log-scraping-all, ignored keys and all`, () => {
      const options = { all: true, ignoredKeys: ["level", "logger", "msg", "time"] };
      assert.equal(one(line, options), `{${HEAD}${JSON.stringify(line)},"level":"INFO","logger":"invalid-format"}`);
    });
  }
});

describe("keys", () => {
  test("ignored ones are removed at the top only, time and msg too", () => {
    const line = '{"time":"T","msg":"m","secret":1,"o":{"secret":2}}';
    assert.equal(one(line, { ignoredKeys: ["secret"] }), '{"@timestamp":"T","@version":1,"message":"m","o":{"secret":2}}');
    assert.equal(one(line, { ignoredKeys: ["time", "msg", "secret", "o", ""] }), `{${HEAD}null}`);
  });

  test("where an event comes from goes over what it says, labels only stand in", () => {
    const fields = { "instance-id": "e", scid: 12, srchost: "h", region: "eu", zone: "z" };
    assert.equal(
      one('{"instance-id":"forged","scid":"0","ServiceName":"own"}', { fields }, { ServiceName: "label", Environment: "dev" }),
      `{${HEAD}null,"instance-id":"e","scid":12,"ServiceName":"own","Environment":"dev","srchost":"h","region":"eu","zone":"z"}`,
    );
  });

  test("ignored keys cannot take away where it comes from", () => {
    assert.equal(one("{}", { fields: { scid: 1 }, ignoredKeys: ["scid"] }), `{${HEAD}null,"scid":1}`);
  });
});

describe("logfmt", () => {
  const cases: Array<[what: string, line: string, expected: string | undefined]> = [
    [
      "plain values, numbers with their text",
      "time=T msg=hello n=12345678901234567890 f=1.50 e=1e400 z=-0 t=true",
      '{"@timestamp":"T","@version":1,"message":"hello","n":12345678901234567890,"f":1.50,"e":1e400,"z":-0,"t":true}',
    ],
    [
      "what only looks like a number is text",
      "a=007 b=1. c=.5 d=0x1f e=+1 f=1_000 g=NaN h=-",
      `{${HEAD}null,"a":"007","b":"1.","c":".5","d":"0x1f","e":"+1","f":"1_000","g":"NaN","h":"-"}`,
    ],
    ["quotes and their escapes", 'msg="a \\"b\\" \\\\ \\n \\t \\u00e9 =" q=""', `{${HEAD}"a \\"b\\" \\\\ \\n \\t é =","q":""}`],
    ["a quoted number is text", 'a="1" b="true"', `{${HEAD}null,"a":"1","b":"true"}`],
    ["an escape that is none stays", 'a="\\x41 \\d \\u12 \\"x\\""', `{${HEAD}null,"a":"\\\\x41 \\\\d \\\\u12 \\"x\\""}`],
    ["a tab in quotes beside escapes", 'a="x\ty\\n"', `{${HEAD}null,"a":"x\\ty\\n"}`],
    ["keys without a value are true, empty ones empty", "flag a= msg=m last", `{${HEAD}"m","flag":true,"a":"","last":true}`],
    ["an equals sign in a value", "url=http://h/?a=b&c=d", `{${HEAD}null,"url":"http://h/?a=b&c=d"}`],
    ["the last of two equal keys", "a=1 b=2 a=3", `{${HEAD}null,"a":3,"b":2}`],
    ["space around, tabs between", "  a=1\t\tb=2  \r", `{${HEAD}null,"a":1,"b":2}`],
    ["odd keys", "a.b-c/d[0]=1 ż=ó", `{${HEAD}null,"a.b-c/d[0]":1,"ż":"ó"}`],
    ["words are no event", "just some words", undefined],
    ["nothing is no event", "", undefined],
    ["a value without a key", "=1 a=2", undefined],
    ["quotes that do not end", 'a=1 msg="never', undefined],
    ["quotes in the middle of a value", 'a=b"c" d=1', undefined],
    ["something behind quotes", 'a="b"c', undefined],
    ["JSON", '{"a":"b=c"}', undefined],
  ];
  for (const [what, line, expected] of cases) {
    test(what, () => {
      assert.equal(one(line, { format: "logfmt" }), expected);
      if (expected === undefined) assert.deepEqual(scrape([line], { format: "logfmt" }).dropped, ["no event"]);
    });
  }

  test("what is no event is wrapped with log-scraping-all", () => {
    assert.equal(one("just words", { format: "logfmt", all: true }), `{${HEAD}"just words","level":"INFO","logger":"invalid-format"}`);
  });
});

describe("limits", () => {
  test("the size is that of the record with its line feed", () => {
    const line = '{"msg":"żółw"}';
    const size = Buffer.byteLength(`${one(line)}\n`);
    assert.equal(scrape([line], { maxRecordBytes: size }).records.length, 1);
    assert.deepEqual(scrape([line], { maxRecordBytes: size - 1 }), { records: [], dropped: ["too long"] });
    assert.equal(scrape([line], { maxRecordBytes: 0 }).records.length, 1);
  });

  test("so many a second, as many at once; what is too long or no event uses nothing up", () => {
    let now = 0;
    const long = `{"msg":"${"x".repeat(200)}"}`;
    const clock = (): number => now;
    const dropped: ScrapeDrop[] = [];
    const options: ScrapeOptions = { format: "logstash", all: false, ignoredKeys: [], rateLimit: 3, maxRecordBytes: 150 };
    const format = logstashRecord({}, "h", options, (reason) => dropped.push(reason), clock);
    const writer = new FrameWriter();
    const write = (line: string): void => {
      const before = writer.length;
      format(lineOf(line), writer);
      if (writer.length > before) writer.end();
    };
    for (const line of [long, "plain", "{}", "{}", long, "{}", "{}"]) write(line);
    assert.equal(writer.count, 3);
    now += 400; // One and a fifth.
    for (const line of ["{}", "{}"]) write(line);
    assert.equal(writer.count, 4);
    now += 60_000; // Never more than a second's at once.
    for (const line of ["{}", "{}", "{}", "{}"]) write(line);

    assert.equal(writer.count, 7);
    const count = (wanted: ScrapeDrop): number => dropped.filter((reason) => reason === wanted).length;
    assert.deepEqual([count("too long"), count("no event"), count("rate limit")], [2, 1, 3]);
  });
});

/** From a task's output to a receiver's socket. */
async function relayed(
  source: (relay: LogRelay, folder: string) => Promise<Pick<FollowRequest, "source"> & { feed?: () => void }>,
  options: Partial<ScrapeOptions> = {},
): Promise<{ lines: string[]; statistics: TaskLogStatistics | undefined }> {
  await using folder = await tempDir("scrape");
  let text = "";
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.setEncoding("utf8").on("data", (data) => {
      text += data;
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = `127.0.0.1:${(server.address() as { port: number }).port}`;
  const events = { positions: () => undefined, output: () => {}, problem: () => {}, log: () => {} };
  const relay = new LogRelay({ docker: { url: "unix:///nowhere", socketPath: "/nowhere" } }, events);
  const { feed, ...request } = await source(relay, folder.path);
  const scraping: ScrapeOptions = { format: "logstash", all: true, ignoredKeys: [], ...options };
  const sinks: FollowRequest["sinks"] = [{ type: "logstash", transport: "tcp", addresses: [address], scrape: scraping }];
  relay.follow({ taskKey: "t", ...request, sinks, fields: {}, hostname: "h" });
  await waitFor(() => relay.stats().tasks.length === 1);
  feed?.();
  const statistics = await relay.stop({ taskKey: "t", drain: true, deadline: Date.now() + 20_000 });
  relay.close();
  await waitFor(() => sockets.length > 0 && sockets.every(({ closed, readableEnded }) => closed || readableEnded));
  for (const socket of sockets) socket.destroy();
  server.close();
  return { lines: text.split("\n").slice(0, -1), statistics };
}

/** The file that Docker writes: pieces of 16 KiB, one record each. */
function dockerFile(output: string): string {
  const pieces = output.match(/[^\n]{1,16384}\n?|\n/g) ?? [];
  return pieces.map((log) => `${JSON.stringify({ log, stream: "stdout", time: TIME })}\n`).join("");
}

const sources: Array<[what: string, source: (output: string) => Parameters<typeof relayed>[0]]> = [
  [
    "a command task",
    (output) => async (relay) => ({
      source: { kind: "pushed" },
      feed: () => {
        const bytes = Buffer.from(output);
        for (let at = 0; at < bytes.length; at += 50_000) {
          relay.push({ taskKey: "t", stream: "stdout", bytes: Uint8Array.from(bytes.subarray(at, at + 50_000)) });
        }
      },
    }),
  ],
  [
    "a Docker task",
    (output) => async (_relay, folder) => {
      writeFileSync(join(folder, "c.log"), dockerFile(output));
      return { source: { kind: "json-file", path: join(folder, "c.log") } };
    },
  ],
];
for (const [what, source] of sources) {
  describe(`the way from ${what} to the receiver`, () => {
    test("numbers keep their text, the last line needs no line feed", async () => {
      const { lines, statistics } = await relayed(source('{"msg":"ż <b>","n":1.50}\nplain\n{"msg":"last","n":12345678901234567890}'));
      assert.match(lines[0] ?? "", /"message":"ż <b>","n":1\.50\}$/);
      assert.match(lines[1] ?? "", /"message":"plain","level":"INFO","logger":"invalid-format"\}$/);
      assert.match(lines[2] ?? "", /"message":"last","n":12345678901234567890\}$/);
      assert.equal(lines.length, 3);
      assert.equal(statistics?.sinks[0]?.sent, 3);
    });

    test("a line of 1 MiB is whole; a longer one is no event any more, and is cut with a mark", async () => {
      const whole = `{"msg":"${"x".repeat(1024 * 1024 - 10)}"}`;
      assert.equal(whole.length, 1024 * 1024);
      const { lines, statistics } = await relayed(source(`${whole}\n${whole}y\n{"msg":"after"}\n`));
      assert.equal((JSON.parse(lines[0] ?? "") as { message: string }).message.length, 1024 * 1024 - 10);
      const cut = JSON.parse(lines[1] ?? "") as { message: string; logger: string };
      assert.equal(cut.logger, "invalid-format");
      assert.match(cut.message, /\[cut: 1 more bytes\]$/);
      assert.match(lines[2] ?? "", /"message":"after"/);
      assert.equal(statistics?.cut, 1);
    });

    test("what is not sent is counted", async () => {
      const { lines, statistics } = await relayed(source(`plain\n{"msg":"${"x".repeat(500)}"}\n{}\n{}\n{}\n`), {
        all: false,
        maxRecordBytes: 200,
        rateLimit: 1,
      });
      assert.ok(lines.length >= 1 && lines.length <= 3);
      const { sent, dropped } = statistics?.sinks[0] ?? assert.fail();
      assert.equal(sent, lines.length);
      assert.deepEqual([dropped["no event"], dropped["too long"], (dropped["rate limit"] ?? 0) + sent], [1, 1, 3]);
    });
  });
}
