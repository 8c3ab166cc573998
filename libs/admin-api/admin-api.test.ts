import assert from "node:assert/strict";
import { test } from "node:test";
import { AnswerMisfit, type AnswerSchema, LogLine, readAnswer, SidecarView, TaskSummaries } from "./index.ts";

const task = {
  taskId: "t",
  frameworkId: "f",
  executorId: "e",
  name: "n",
  runtime: "docker",
  state: null,
  phase: "preparing",
  step: "create",
  healthy: null,
  id: null,
  image: null,
  worker: "connected",
  launchedAt: 1,
  startedAt: null,
  message: null,
};

test("an answer passes with fields and words that only a newer berthd has", () => {
  const [read] = readAnswer(TaskSummaries, [{ ...task, runtime: "vm", mood: "good" }]);

  assert.equal(read?.runtime, "vm");
});

const misfits: Array<[string, AnswerSchema<unknown>, unknown, string]> = [
  ["a text for a number", TaskSummaries, [task, { ...task, launchedAt: "now" }], '"1.launchedAt" is a text, not a number'],
  ["null for a text", TaskSummaries, [{ ...task, phase: null }], '"0.phase" is null, not a text'],
  ["a field that is gone", TaskSummaries, [{ ...task, healthy: undefined }], '"0.healthy" is missing'],
  ["another kind of answer", TaskSummaries, { tasks: [] }, "the answer is an object, not a list"],
  ["no JSON", TaskSummaries, undefined, "the answer is not JSON"],
  ["a stream that is not known", LogLine, { stream: "stdlog", time: "", text: "hunter2" }, '"stream" is none of "stdout", "stderr"'],
  ["much at once", SidecarView, {}, '"host" is missing; "serviceId" is missing; "status" is missing; and 5 more'],
];
for (const [what, schema, json, message] of misfits) {
  test(`an answer that does not fit is told by its field: ${what}`, () => {
    assert.throws(
      () => readAnswer(schema, json),
      (error) => error instanceof AnswerMisfit && error.message === message,
      message,
    );
  });
}
