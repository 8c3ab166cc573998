import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { tempDir, waitFor } from "@berth/test-harness";
import { LogRelay } from "./relay.ts";
import type { FollowRequest, LogPosition } from "./types.ts";

const docker = { url: "unix:///nowhere", socketPath: "/nowhere" };

function record(log: string, stream = "stdout"): string {
  return `${JSON.stringify({ log: `${log}\n`, stream, time: "2026-11-21T07:00:47.123456789Z" })}\n`;
}

function relayTo(positions: Map<string, LogPosition>): LogRelay {
  return new LogRelay(
    { docker },
    {
      positions: (batch) => {
        for (const { taskKey, position } of batch) positions.set(taskKey, position);
        return undefined;
      },
      output: () => {},
      problem: () => {},
      log: () => {},
    },
  );
}

function request(folder: string, options: FollowRequest["options"], position?: LogPosition): FollowRequest {
  return {
    taskKey: "t",
    source: { kind: "json-file", path: join(folder, "c.log") },
    sinks: [{ type: "file", path: join(folder, "out") }],
    fields: {},
    hostname: "h",
    ...(options === undefined ? {} : { options }),
    ...(position === undefined ? {} : { position }),
  };
}

const stop = { taskKey: "t", drain: true, deadline: Date.now() + 60_000 };

test("an event that waits for its next lines is read again after a crash, however much the other stream wrote meanwhile", async () => {
  await using folder = await tempDir("ml");
  const lines = Array.from({ length: 3_000 }, (_, i) => record(`start ${i}`));
  writeFileSync(join(folder.path, "c.log"), record("start first", "stderr") + lines.join(""));
  const positions = new Map<string, LogPosition>();
  const options = { multiLine: { start: "^start", maxWaitMs: 60_000 } };

  const killed = relayTo(positions);
  killed.follow(request(folder.path, options));
  await waitFor(() => killed.stats().tasks[0]?.lagBytes === 0);
  await killed.stop({ ...stop, drain: false });
  killed.close();
  const next = relayTo(positions);
  next.follow(request(folder.path, options, positions.get("t")));
  await next.stop(stop);
  next.close();

  const out = readFileSync(join(folder.path, "out"), "utf8");
  assert.match(out, /^start first$/m);
  for (const i of [0, 1_500, 2_999]) assert.match(out, new RegExp(`^start ${i}$`, "m"));
});

test("one stream's last event comes although the other stream never rests", async () => {
  await using folder = await tempDir("ml");
  writeFileSync(join(folder.path, "c.log"), record("start lonely", "stderr"));
  const relay = relayTo(new Map());
  const out = (): string => readFileSync(join(folder.path, "out"), "utf8");
  const busy = setInterval(() => writeFileSync(join(folder.path, "c.log"), record("start again"), { flag: "a" }), 2);

  relay.follow(request(folder.path, { multiLine: { start: "^start", maxWaitMs: 100 } }));
  await waitFor(() => out().includes("start lonely\n")).finally(() => clearInterval(busy));

  await relay.stop(stop);
  relay.close();
});

test("of lines that are joined none is cut, and no more than a line's length is kept", async () => {
  await using folder = await tempDir("ml");
  const lines = ["start", ...Array.from({ length: 300 }, (_, i) => `  at ${i} ${"x".repeat(100)}`)];
  writeFileSync(join(folder.path, "c.log"), lines.map((line) => record(line)).join(""));
  const relay = relayTo(new Map());

  relay.follow(request(folder.path, { multiLine: { start: "^start" }, maxLineBytes: 2_000 }));
  const stopped = await relay.stop(stop);
  relay.close();

  assert.equal(stopped?.cut, 0);
  assert.equal(readFileSync(join(folder.path, "out"), "utf8"), `${lines.join("\n")}\n`);
});

test("a pattern that could be matched in exponentially many ways comes to its end", async () => {
  const program = `
    import { MultiLine } from ${JSON.stringify(new URL("./multi-line.ts", import.meta.url).href)};
    const buffer = Buffer.from("a".repeat(200) + "!");
    const line = { buffer, start: 0, end: buffer.length, kind: "raw", stream: "stdout", time: "", offset: 0 };
    const multiLine = new MultiLine({ start: "^(a+)+$" }, 1000);
    multiLine.take(line, 1, () => {});
    console.log(multiLine.oldest.place);
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], { timeout: 30_000 });
  assert.equal(stdout, "1\n");
});
