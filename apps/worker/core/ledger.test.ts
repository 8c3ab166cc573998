import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { nodeHost } from "../host-node/host.ts";
import { graceOf, Ledger } from "./ledger.ts";

const info = (taskId: string, more: Record<string, unknown> = {}): { task_id: { value: string } } => ({
  task_id: { value: taskId },
  ...more,
});

function ledgerWith(taskId: string, more: Record<string, unknown> = {}): Ledger {
  const ledger = new Ledger(nodeHost(), { executorId: "e", agentId: () => "a" });
  ledger.launch([info(taskId, more)], undefined);
  return ledger;
}

describe("updates", () => {
  test("hold what the agent insists on", () => {
    const status = ledgerWith("t").update("t", { state: "TASK_RUNNING", message: "m", healthy: true });
    assert.ok(status);
    const { uuid, timestamp, ...rest } = status;
    assert.deepEqual(rest, {
      task_id: { value: "t" },
      state: "TASK_RUNNING",
      source: "SOURCE_EXECUTOR",
      executor_id: { value: "e" },
      agent_id: { value: "a" },
      message: "m",
      healthy: true,
    });
    assert.equal(Buffer.from(uuid, "base64").length, 16);
    assert.ok(Math.abs(timestamp - Date.now() / 1000) < 60);
  });

  for (const [name, states, wanted] of [
    ["forward", ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"], 4],
    ["equal ones once", ["TASK_RUNNING", "TASK_RUNNING"], 1],
    ["never back", ["TASK_RUNNING", "TASK_STARTING", "TASK_KILLING", "TASK_RUNNING", "TASK_STARTING"], 2],
    ["nothing after the end", ["TASK_FAILED", "TASK_FINISHED", "TASK_RUNNING", "TASK_FAILED"], 1],
  ] as const) {
    test(`go ${name}`, () => {
      const ledger = ledgerWith("t");
      const made = states.map((state) => ledger.update("t", { state })).filter((status) => status !== undefined);
      assert.equal(made.length, wanted);
    });
  }

  test("say KILLING once, also with other words", () => {
    const ledger = ledgerWith("t");
    assert.ok(ledger.update("t", { state: "TASK_KILLING", message: "20 s" }));
    assert.equal(ledger.update("t", { state: "TASK_KILLING", message: "5 s" }), undefined);
  });

  test("tell every failed health check, and health back once", () => {
    const ledger = ledgerWith("t");
    const report = (healthy: boolean) =>
      ledger.update("t", { state: "TASK_RUNNING", healthy, reason: "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED" });
    assert.deepEqual(
      [false, false, false, true, true].map((healthy) => report(healthy) !== undefined),
      [true, true, true, true, false],
    );
  });

  test("of a task that was never launched are none", () => {
    assert.equal(ledgerWith("t").update("other", { state: "TASK_RUNNING" }), undefined);
  });
});

describe("wishes", () => {
  test("only shorten, counted from the first", () => {
    const ledger = ledgerWith("t");
    for (const [receivedAt, gracePeriodMs] of [
      [1000, 20_000],
      [2000, 30_000],
      [3000, 5000],
      [4000, 10_000],
    ] as const) {
      ledger.want("t", { kind: "kill", receivedAt, cause: "framework", gracePeriodMs });
    }
    const { wanted } = ledger.records()[0] ?? {};
    assert.deepEqual(wanted, { kind: "kill", receivedAt: 1000, cause: "framework", gracePeriodMs: 5000 });
  });

  test("without a grace period of their own have the TaskInfo's, however large its number was", () => {
    const ledger = ledgerWith("t", { kill_policy: { grace_period: { nanoseconds: "3000000000" } } });
    const [record] = ledger.records();
    assert.ok(record);
    assert.equal(graceOf(record, undefined), 3000);
    ledger.want("t", { kind: "kill", receivedAt: 1, cause: "framework" });
    ledger.want("t", { kind: "kill", receivedAt: 2, cause: "framework", gracePeriodMs: 4000 });
    assert.equal(ledger.records()[0]?.wanted?.gracePeriodMs, undefined);
  });
});

describe("tasks", () => {
  test("launched twice are one", () => {
    const ledger = ledgerWith("t");
    assert.deepEqual(
      ledger.launch([info("t"), info("u")], ["t", "u"]).map((record) => record.taskId),
      ["u"],
    );
  });

  test("are unacknowledged until any of their updates was, and settled when the last was", () => {
    const ledger = ledgerWith("t");
    const running = ledger.update("t", { state: "TASK_RUNNING" });
    const ended = ledger.update("t", { state: "TASK_FINISHED" });
    assert.ok(running && ended);
    assert.equal(ledger.unacknowledgedTasks().length, 1);
    ledger.acknowledged(running);
    assert.equal(ledger.unacknowledgedTasks().length, 0);
    assert.equal(ledger.settled, false);
    ledger.acknowledged(ended);
    assert.equal(ledger.settled, true);
  });

  test("are forgotten when their end is acknowledged, and not before", () => {
    const ledger = ledgerWith("t");
    const ended = ledger.update("t", { state: "TASK_FINISHED" });
    assert.ok(ended);
    ledger.forget("t");
    assert.equal(ledger.entries.size, 1);
    ledger.acknowledged(ended);
    ledger.forget("t");
    assert.equal(ledger.entries.size, 0);
  });
});
