import assert from "node:assert/strict";
import { test } from "node:test";
import type { Line } from "./line.ts";
import { FrameWriter, jsonRecord, localTime } from "./records.ts";

function line(text: string, more: Partial<Line> = {}): Line {
  const buffer = Buffer.from(text);
  const time = "2026-11-21T07:00:47.123456789Z";
  return { buffer, start: 0, end: buffer.length, kind: "plain", stream: "stdout", time, offset: 0, ...more };
}

test("a record's keys are sorted whatever the labels are called, and reserved ones step aside", () => {
  const fields = { Zone: "a<b", Alpha: 'say "hi"\n', Level: "own", Manner: "between", Hostname: "not this", fields: "lower" };
  const format = jsonRecord(fields, "host1");
  const writer = new FrameWriter();

  for (const one of [
    line("x\\u003cy", { kind: "escaped" }),
    line('raw "q"', { kind: "raw", stream: "stderr" }),
    line("An error", { stream: "stderr" }),
  ]) {
    format(one, writer);
    writer.end();
  }
  format(line("later", { time: "2026-11-21T07:00:48Z" }), writer);
  writer.end();

  const record = (level: string, payload: string, second = 47): string =>
    `{"Alpha":"say \\"hi\\"\\n","Hostname":"host1","Level":"${level}","Manner":"between","Payload":"${payload}",` +
    `"Timestamp":"${localTime(Date.UTC(2026, 10, 21, 7, 0, second))}","Zone":"a\\u003cb","fields":"lower","fields.Level":"own"}\n`;
  const { bytes, ends } = writer.take();
  assert.equal(
    bytes.toString(),
    record("info", "x\\u003cy") + record("info", 'raw \\"q\\"') + record("error", "An error") + record("info", "later", 48),
  );
  assert.equal(ends.length, 4);
});
