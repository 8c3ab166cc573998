import assert from "node:assert/strict";
import { test } from "node:test";
import { PushedSource } from "./pushed-source.ts";
import type { LogPosition } from "./types.ts";

type Position = Extract<LogPosition, { kind: "pushed" }>;

function sourceAt(position?: Position): { source: PushedSource; gaps: string[]; lines: () => string[] } {
  const gaps: string[] = [];
  const source = new PushedSource(1024 * 1024, (reason) => gaps.push(reason), position);
  const lines = (): string[] => {
    const lines: string[] = [];
    while (source.read((line) => lines.push(line.buffer.toString("utf8", line.start, line.end))));
    return lines;
  };
  return { source, gaps, lines };
}

test("the position is the bytes of whole lines; what comes again before it is passed over, to the byte", () => {
  const first = sourceAt({ kind: "pushed", stdout: 0, stderr: 0 });
  first.source.push("stdout", Buffer.from("one\ntw"), 0);
  first.source.push("stderr", Buffer.from("err\n"), 0);
  assert.deepEqual(first.lines(), ["one", "err"]);
  assert.deepEqual(first.source.position(), { kind: "pushed", stdout: 4, stderr: 4 });

  const second = sourceAt(first.source.position() as Position);
  second.source.push("stdout", Buffer.from("one\ntw"), 0);
  second.source.push("stderr", Buffer.from("err\n"), 0);
  second.source.push("stdout", Buffer.from("o\n"), 6);
  assert.deepEqual(second.lines(), ["two"]);
  assert.deepEqual(second.gaps, []);
  assert.deepEqual(second.source.position(), { kind: "pushed", stdout: 8, stderr: 4 });
});

test("what a worker could not keep is a gap of so many bytes, and joins no two lines", () => {
  const { source, gaps, lines } = sourceAt({ kind: "pushed", stdout: 0, stderr: 0 });
  source.push("stdout", Buffer.from("one\nbegun"), 0);
  source.push("stdout", Buffer.from("ended\ntwo\n"), 100);
  assert.deepEqual(lines(), ["one", "begun", "ended", "two"]);
  assert.match(gaps.join(), /^91 bytes of stdout are lost/);
  assert.deepEqual(source.position(), { kind: "pushed", stdout: 110, stderr: 0 });
});

test("a line without an end does not hold the position back for ever: a worker could not send the rest", () => {
  const { source, lines } = sourceAt({ kind: "pushed", stdout: 0, stderr: 0 });
  source.push("stdout", Buffer.alloc(100_000, "x"), 0);
  assert.deepEqual(lines(), []);
  assert.equal((source.position() as Position).stdout, 0);
  source.push("stdout", Buffer.alloc(100_000, "x"), 100_000);
  assert.deepEqual(lines(), []);
  assert.equal((source.position() as Position).stdout, 200_000);
  source.push("stdout", Buffer.from("\n"), 200_000);
  assert.equal(lines().join().length, 200_000);
});

test("a worker that does not count its bytes has no position", () => {
  const { source, lines } = sourceAt();
  source.push("stdout", Buffer.from("one\n"));
  source.push("stdout", Buffer.from("two\n"));
  assert.deepEqual(lines(), ["one", "two"]);
  assert.equal(source.position(), undefined);
});
