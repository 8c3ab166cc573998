import assert from "node:assert/strict";
import { test } from "node:test";
import { prettyLines } from "./pretty-lines.ts";

test("pretty lines: time, level, message and fields; what has blanks is quoted", () => {
  const line = JSON.stringify({
    level: 40,
    time: "2026-01-02T03:04:05.678Z",
    taskId: "web",
    why: "it is late",
    tasks: ["a"],
    msg: "a worker died",
  });

  assert.equal(prettyLines(line), '03:04:05.678 WARN  a worker died  taskId=web why="it is late" tasks=["a"]\n');
});

test("pretty lines: an error in words or with its stack; what is no JSON stays as it is", () => {
  const line = (err: unknown): string => JSON.stringify({ level: 50, time: "2026-01-02T03:04:05.678Z", err, msg: "m" });

  assert.equal(prettyLines(line("no answer")), '03:04:05.678 ERROR m  error="no answer"\n');
  assert.equal(prettyLines(line({ stack: "Error: x\n at y" })), "03:04:05.678 ERROR m\n    Error: x\n     at y\n");
  assert.equal(prettyLines("panic\n"), "panic\n");
});
