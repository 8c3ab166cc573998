/** Rules of the agent's API that are met rarely: the real worker against the local agent, beside session.test.ts. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { LocalExecutor, TaskInfoInput } from "@berth/mesos/local-agent";
import { tempDir, waitFor } from "@berth/test-harness";
import { logOf, newTask, statesOf, WorkerStage } from "./stage-test-kit.ts";

const WHOLE_LIFE = ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"];

async function running(stage: WorkerStage, executor: LocalExecutor): Promise<TaskInfoInput> {
  const task = newTask();
  executor.launch(task);
  await executor.waitForState(task.task_id.value, "TASK_RUNNING");
  await waitFor(() => stage.supervisor.said("acknowledged").length >= 2);
  return task;
}

async function certificate(): Promise<{ key: string; cert: string; file: string } & AsyncDisposable> {
  const folder = await tempDir("tls");
  const [key, file] = [`${folder.path}/key.pem`, `${folder.path}/cert.pem`];
  const subject = ["-subj", "/CN=agent", "-addext", "subjectAltName=IP:127.0.0.1"];
  const request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", ...subject];
  execFileSync("openssl", [...request, "-keyout", key, "-out", file], { stdio: "ignore" });
  return { key: readFileSync(key, "utf8"), cert: readFileSync(file, "utf8"), file, [Symbol.asyncDispose]: () => folder.remove() };
}

describe("TLS", () => {
  for (const [name, environment] of [
    ["told by LIBPROCESS_SSL_ENABLED, its certificate verified", { LIBPROCESS_SSL_ENABLED: "1", LIBPROCESS_SSL_VERIFY_SERVER_CERT: "1" }],
    ["told by BERTH_AGENT_SCHEME", { BERTH_AGENT_SCHEME: "https" }],
  ] as const) {
    test(name, async () => {
      await using tls = await certificate();
      await using stage = await WorkerStage.start({ tls, authentication: true });
      const executor = stage.worker({ ...environment, LIBPROCESS_SSL_CA_FILE: tls.file });
      const task = await running(stage, executor);

      stage.supervisor.end(task.task_id.value, "TASK_FINISHED");

      assert.deepEqual(await executor.exited, { code: 0, signal: null });
      assert.deepEqual(statesOf(executor, task), WHOLE_LIFE);
    });
  }

  test("with a certificate that is not trusted is no session", async () => {
    await using tls = await certificate();
    await using stage = await WorkerStage.start({ tls });
    const executor = stage.worker({ LIBPROCESS_SSL_ENABLED: "1", LIBPROCESS_SSL_VERIFY_SERVER_CERT: "1" });

    await waitFor(() => /cannot subscribe.*(SELF_SIGNED|UNABLE_TO)/.test(logOf(executor)));

    assert.equal(executor.subscriptions, 0);
  });
});

test("ERROR: subscribed again with checkpointing, only logged without; the task lives on in either case", async () => {
  for (const checkpoint of [true, false]) {
    await using stage = await WorkerStage.start({ checkpoint });
    const executor = stage.worker();
    const task = await running(stage, executor);

    executor.send({ type: "ERROR", error: { message: "something" } });
    await waitFor(() => logOf(executor).includes("ERROR: something"));
    await waitFor(() => executor.subscriptions === (checkpoint ? 2 : 1));
    stage.supervisor.end(task.task_id.value, "TASK_FINISHED");

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.deepEqual(statesOf(executor, task), WHOLE_LIFE);
  }
});

test("events that miss the fields of their type are passed over, also without checkpointing", async () => {
  await using stage = await WorkerStage.start({ checkpoint: false });
  const executor = stage.worker();
  const task = await running(stage, executor);

  for (const type of ["LAUNCH", "LAUNCH_GROUP", "KILL", "ACKNOWLEDGED", "MESSAGE"]) executor.send({ type });
  await waitFor(() => logOf(executor).includes("MESSAGE cannot be understood"));
  stage.supervisor.end(task.task_id.value, "TASK_FINISHED");

  assert.deepEqual(await executor.exited, { code: 0, signal: null });
  assert.equal(executor.subscriptions, 1);
});

test("an update that is refused on the way takes neither the last one nor the task with it", async () => {
  await using stage = await WorkerStage.start();
  const executor = stage.worker();
  const task = await running(stage, executor);
  const taskId = task.task_id.value;

  for (let time = 0; time < 2; time++) stage.agent.faults.rejectNext(400, "no", "UPDATE");
  stage.supervisor.send({ type: "update", taskId, update: { state: "TASK_RUNNING", healthy: true } });
  stage.supervisor.end(taskId, "TASK_FINISHED");

  assert.deepEqual(await executor.exited, { code: 0, signal: null });
  assert.deepEqual(statesOf(executor, task), WHOLE_LIFE);
});

test("a SUBSCRIBE that the agent cannot read is said once more with reduced updates, then given up", async () => {
  await using stage = await WorkerStage.start();
  const executor = stage.worker();
  const task = await running(stage, executor);
  const data = "this is no base64!";

  stage.agent.faults.rejectNext(503, "", "UPDATE");
  stage.supervisor.send({ type: "update", taskId: task.task_id.value, update: { state: "TASK_RUNNING", data } });
  stage.agent.faults.dropStream("eof");
  await waitFor(() => executor.subscriptions === 2);
  stage.supervisor.end(task.task_id.value, "TASK_FINISHED");

  assert.deepEqual(await executor.exited, { code: 0, signal: null });
  assert.match(logOf(executor), /BUG: the agent (cannot read SUBSCRIBE|refuses an update)/);
  assert.equal(statesOf(executor, task).at(-1), "TASK_FINISHED");

  const text = "Failed to convert JSON into Call protobuf: x";
  for (let time = 0; time < 2; time++) stage.agent.faults.rejectNext(400, text, "SUBSCRIBE");
  assert.deepEqual(await stage.worker().exited, { code: 1, signal: null });
});

test("two that take the stream from each other do not flap: some tries a second, not thousands", async () => {
  await using stage = await WorkerStage.start();
  const executor = stage.worker();
  await running(stage, executor);

  const before = executor.subscriptions;
  const end = performance.now() + 1500;
  while (performance.now() < end) {
    const count = executor.subscriptions;
    executor.dropStream("clean");
    await waitFor(() => executor.subscriptions > count, { interval: 1 });
  }

  // At random intervals of at most 500 ms; at once it would be hundreds.
  assert.ok(executor.subscriptions - before < 60, `${executor.subscriptions - before} subscriptions in 1.5 s`);
});

test("SHUTDOWN instead of SUBSCRIBED: the last updates are sent all the same", async () => {
  await using stage = await WorkerStage.start({ reregistrationTimeoutMs: 1000 });
  const executor = stage.worker();
  const task = await running(stage, executor);

  await stage.agent.faults.restart({ recover: "cleanup" });

  await executor.exited;
  assert.equal(statesOf(executor, task).at(-1), "TASK_KILLED");
  assert.equal(executor.updates.at(-1)?.source, "SOURCE_EXECUTOR");
});

test("a second SIGTERM changes nothing", async () => {
  await using stage = await WorkerStage.start({ runs: false });
  const executor = stage.worker();
  const task = newTask();
  const taskId = task.task_id.value;
  executor.launch(task);
  await waitFor(() => stage.supervisor.heard.some((message) => "tasks" in message && message.tasks.length > 0));

  executor.crash("SIGTERM");
  await waitFor(() => stage.supervisor.said("kill").length === 1);
  await sleep(20);
  executor.crash("SIGTERM");
  await waitFor(() => logOf(executor).split("got signal 15").length === 3);
  stage.supervisor.send({ type: "update", taskId, update: { state: "TASK_KILLED" } });
  stage.supervisor.send({ type: "exit", code: 0 });

  assert.deepEqual(await executor.exited, { code: 0, signal: null });
  assert.deepEqual(statesOf(executor, task), ["TASK_KILLED"]);
});

test("a domain socket whose path is too long for one is passed over for TCP", async () => {
  await using stage = await WorkerStage.start();
  const executor = stage.worker({ MESOS_DOMAIN_SOCKET: `/${"x".repeat(107)}` });
  const task = await running(stage, executor);

  stage.supervisor.end(task.task_id.value, "TASK_FINISHED");

  assert.deepEqual(await executor.exited, { code: 0, signal: null });
});
