/** The real worker and its supervisor: absent, away, back, refusing, talking nonsense. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { waitFor } from "@berth/test-harness";
import { logOf, newTask, statesOf, WorkerStage } from "./stage-test-kit.ts";

describe("a supervisor that is not there", () => {
  test("a task fails after the timeout, with words about which socket", async () => {
    await using stage = await WorkerStage.start();
    await stage.supervisor.stop();
    const executor = stage.worker({ EXECUTOR_SUPERVISOR_TIMEOUT: "300ms" });
    const task = newTask();
    executor.launch(task);

    const failed = await executor.waitForState(task.task_id.value, "TASK_FAILED");

    assert.ok(failed.message?.includes(stage.supervisor.path), failed.message);
    assert.match(failed.message ?? "", /ENOENT|ECONNREFUSED/);
    assert.deepEqual(await executor.exited, { code: 0, signal: null });
  });

  test("one that comes later is waited for", async () => {
    await using stage = await WorkerStage.start();
    await stage.supervisor.stop();
    const executor = stage.worker();
    const task = newTask();
    executor.launch(task);
    await waitFor(() => logOf(executor).includes("waiting for it"));

    await stage.supervisor.listen();
    await executor.waitForState(task.task_id.value, "TASK_RUNNING");
    stage.supervisor.end(task.task_id.value, "TASK_FINISHED");

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
  });

  test("a KILL before any took the task on is TASK_KILLED at once", async () => {
    await using stage = await WorkerStage.start();
    await stage.supervisor.stop();
    const executor = stage.worker();
    const task = newTask();
    executor.launch(task);
    await waitFor(() => executor.subscriptions === 1);

    executor.kill(task.task_id.value);

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.deepEqual(statesOf(executor, task), ["TASK_KILLED"]);
  });
});

describe("a supervisor that goes", () => {
  test("hears in the next hello what it missed: launch, kill, checkpoint, acknowledgement; and the messages", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker({ EXECUTOR_SUPERVISOR_TIMEOUT: "10m" });
    const [first, second] = [newTask(), newTask()];
    executor.launch(first);
    await executor.waitForState(first.task_id.value, "TASK_RUNNING");
    stage.supervisor.send({ type: "checkpoint", taskId: first.task_id.value, sequence: 3, data: { any: ["thing"] } });
    stage.supervisor.send({ type: "checkpoint", taskId: first.task_id.value, sequence: 2, data: "older" });
    await waitFor(() => stage.supervisor.said("held").length === 1);

    await stage.supervisor.stop();
    stage.supervisor.runs = false;
    // What is written into a connection that has just broken is lost: the truth is in the hello, but not the scheduler's messages.
    await waitFor(() => logOf(executor).includes("is away"));
    executor.launch(second);
    executor.kill(first.task_id.value, { gracePeriodMs: 7000 });
    executor.kill(first.task_id.value, { gracePeriodMs: 9000 });
    executor.message("hello there");
    await stage.supervisor.listen();
    await waitFor(() => stage.supervisor.said("message").length === 1);

    const [one, two] = stage.supervisor.lastHello?.tasks ?? [];
    assert.equal(one?.lastStatus?.state, "TASK_RUNNING");
    assert.equal(one?.wanted?.gracePeriodMs, 7000);
    assert.deepEqual(one?.checkpoint, { sequence: 3, data: { any: ["thing"] } });
    assert.equal(two?.taskId, second.task_id.value);
    assert.equal(stage.supervisor.said("message")[0]?.data, Buffer.from("hello there").toString("base64"));
  });

  test("fifty times: the task goes on, its states are told once", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker();
    const task = newTask();
    executor.launch(task);
    await executor.waitForState(task.task_id.value, "TASK_RUNNING");

    for (let time = 0; time < 50; time++) {
      await waitFor(() => stage.supervisor.connected, { interval: 2 });
      await stage.supervisor.stop();
      await stage.supervisor.listen();
    }
    stage.supervisor.end(task.task_id.value, "TASK_FINISHED");

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.deepEqual(statesOf(executor, task), ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]);
  });

  test("SHUTDOWN while it is away: the worker leaves by itself before the agent kills it", async () => {
    await using stage = await WorkerStage.start({ executorShutdownGraceMs: 3000 });
    const executor = stage.worker();
    const task = newTask();
    executor.launch(task);
    await executor.waitForState(task.task_id.value, "TASK_RUNNING");
    await stage.supervisor.stop();

    executor.shutdown();

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
  });
});

describe("a supervisor that answers oddly", () => {
  test("refused for good: exit 3, no update", async () => {
    await using stage = await WorkerStage.start();
    stage.supervisor.refusal = { reason: "another worker serves this executor", retry: false };
    const executor = stage.worker();

    assert.deepEqual(await executor.exited, { code: 3, signal: null });
    assert.match(logOf(executor), /another worker serves this executor/);
    assert.equal(executor.updates.length, 0);
  });

  test("refused for now: tried again, said once in the log, and the reason is in the failure", async () => {
    await using stage = await WorkerStage.start();
    stage.supervisor.refusal = { reason: "speaks protocol 9 only", retry: true };
    const executor = stage.worker({ EXECUTOR_SUPERVISOR_TIMEOUT: "1s" });
    const task = newTask();
    executor.launch(task);

    const failed = await executor.waitForState(task.task_id.value, "TASK_FAILED");
    await executor.exited;

    assert.match(failed.message ?? "", /speaks protocol 9 only/);
    assert.ok(stage.supervisor.said("hello").length > 1);
    assert.equal(logOf(executor).split("refuses this worker for now").length, 2);
  });

  test("bytes that are no frame and messages that do not fit cost one connection each", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker();
    const task = newTask();
    executor.launch(task);
    await executor.waitForState(task.task_id.value, "TASK_RUNNING");

    for (const bytes of ["GET / HTTP/1.1\r\n", '3\n{"}', '15\n{"type":"title"}', "99999999999\n"]) {
      const hellos = stage.supervisor.said("hello").length;
      stage.supervisor.sendBytes(Buffer.from(bytes));
      if (bytes.startsWith("15")) stage.supervisor.sendBytes(Buffer.from(" "));
      await waitFor(() => stage.supervisor.said("hello").length > hellos && stage.supervisor.connected, {
        what: `another hello after ${bytes}`,
      });
    }
    stage.supervisor.end(task.task_id.value, "TASK_FINISHED");

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.deepEqual(statesOf(executor, task), ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]);
  });
});
