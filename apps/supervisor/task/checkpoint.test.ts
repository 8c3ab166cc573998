import assert from "node:assert/strict";
import { test } from "node:test";
import { MAX_CHECKPOINT_BYTES, type SupervisorMessage, type TaskRecord } from "@berth/protocol";
import fc from "fast-check";
import { CheckpointKeeper, type Dropped, readCheckpoint } from "./checkpoint.ts";
import { type Checkpoint, FRESH_CHECKPOINT } from "./situation.ts";

function keeper(checkpoint?: TaskRecord["checkpoint"]): { kept: CheckpointKeeper; sent: SupervisorMessage[]; dropped: Dropped[] } {
  const sent: SupervisorMessage[] = [];
  const dropped: Dropped[] = [];
  const record: TaskRecord = {
    taskId: "t",
    taskInfo: { task_id: { value: "t" } },
    launchedAt: 0,
    ...(checkpoint === undefined ? {} : { checkpoint }),
  };
  const kept = new CheckpointKeeper(record, { send: (message) => sent.push(message), onDropped: (what) => dropped.push(what) });
  return { kept, sent, dropped };
}

function last(sent: SupervisorMessage[]): Extract<SupervisorMessage, { type: "checkpoint" }> {
  return sent.at(-1) as Extract<SupervisorMessage, { type: "checkpoint" }>;
}

test("checkpoint: it counts as held when the worker says so of the newest, and of nothing that was never sent", () => {
  const { kept } = keeper();
  kept.keep({ phase: "starting" });
  kept.keep({ phase: "running" });

  kept.held(1);
  assert.equal(kept.isHeld, false);
  kept.held(99);
  assert.equal(kept.isHeld, false);
  kept.held(2);
  assert.equal(kept.isHeld, true);
});

test("checkpoint: nothing waits for a log position", () => {
  const { kept, sent } = keeper();
  kept.keep({ phase: "starting" });
  kept.held(1);

  kept.keepLogPosition({ offset: 7 });

  assert.equal(kept.isHeld, true);
  assert.deepEqual(last(sent).data, { ...FRESH_CHECKPOINT, phase: "starting", logs: { offset: 7 } });
  kept.keep({ phase: "running" });
  kept.held(2);
  assert.equal(kept.isHeld, false);
});

test("checkpoint: a worker that returns with an older one gets the newest again", () => {
  const { kept, sent } = keeper();
  kept.keep({ phase: "starting" });
  kept.keep({ phase: "running" });
  kept.held(2);

  kept.returned({ sequence: 1, data: { ...FRESH_CHECKPOINT, phase: "starting" } });

  assert.equal(kept.isHeld, false);
  assert.deepEqual([last(sent).sequence, (last(sent).data as Checkpoint).phase], [2, "running"]);
});

test("checkpoint: a newer one was given by another supervisor, and counts", () => {
  const { kept } = keeper();
  kept.keep({ phase: "starting" });

  kept.returned({ sequence: 9, data: { ...FRESH_CHECKPOINT, phase: "running", id: "c9" } });

  assert.deepEqual([kept.data.phase, kept.data.id, kept.isHeld], ["running", "c9", true]);
});

test("checkpoint: what is sent never grows over its bound; the outcome stays", () => {
  const { kept, sent, dropped } = keeper();
  kept.keep({ hookStates: { big: "ü".repeat(MAX_CHECKPOINT_BYTES) }, logs: "x".repeat(MAX_CHECKPOINT_BYTES), id: "c1" });
  kept.keep({ phase: "ended", outcome: { state: "TASK_FAILED", message: "m".repeat(MAX_CHECKPOINT_BYTES) } });

  for (const message of sent) {
    assert.equal(message.type === "checkpoint" && Buffer.byteLength(JSON.stringify(message.data)) <= MAX_CHECKPOINT_BYTES, true);
  }
  assert.deepEqual(dropped, ["log positions", "hook states", "words"]);
  assert.equal(kept.data.id, "c1");
  assert.equal(kept.data.outcome?.state, "TASK_FAILED");
});

test("checkpoint: one that cannot be read is taken for a task that may have been started", () => {
  for (const data of [
    null,
    7,
    "x",
    [],
    {},
    { version: 2, phase: "preparing" },
    { ...FRESH_CHECKPOINT, stages: null },
    { ...FRESH_CHECKPOINT, phase: "ended" },
  ]) {
    const { kept } = keeper({ sequence: 4, data });
    assert.deepEqual([kept.readable, kept.data.phase, kept.isHeld], [false, "starting", false], JSON.stringify(data));
  }
});

test("checkpoint: anything at all is read without an exception", () => {
  fc.assert(fc.property(fc.anything(), (data) => readCheckpoint(data).checkpoint.stages.length >= 0));
});
