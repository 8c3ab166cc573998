/** The real worker against the local agent: every rule of the session, with a scripted supervisor behind it. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import type { LocalExecutor, TaskInfoInput } from "@berth/mesos/local-agent";
import { waitFor } from "@berth/test-harness";
import { logOf, newTask, statesOf, WorkerStage } from "./stage-test-kit.ts";

const WHOLE_LIFE = ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"];

/** A certificate that nobody vouches for; the agent's is not verified unless LIBPROCESS_SSL_VERIFY_SERVER_CERT says so. */
function selfSigned(): { key: string; cert: string } {
  const args = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=agent", "-days", "2"];
  const pem = execFileSync("openssl", [...args, "-keyout", "-", "-out", "-"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  const at = pem.indexOf("-----BEGIN CERTIFICATE");
  return { key: pem.slice(0, at), cert: pem.slice(at) };
}

async function running(stage: WorkerStage, executor: LocalExecutor, more: Record<string, unknown> = {}): Promise<TaskInfoInput> {
  const task = newTask(more);
  executor.launch(task);
  await executor.waitForState(task.task_id.value, "TASK_RUNNING");
  await waitFor(() => stage.supervisor.said("acknowledged").filter(({ taskId }) => taskId === task.task_id.value).length >= 2);
  return task;
}

describe("a life without trouble", () => {
  test("launch, states in order, exit 0 after the acknowledgement of the last", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker();
    const task = await running(stage, executor);

    stage.supervisor.end(task.task_id.value, "TASK_FINISHED");

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.deepEqual(statesOf(executor, task), WHOLE_LIFE);
    assert.ok(executor.updates.every((update) => update.source === "SOURCE_EXECUTOR"));
  });

  test("hello says who the worker is, and nothing of the agent's token", async () => {
    await using stage = await WorkerStage.start({ authentication: true });
    const executor = stage.worker({ APP: "1" }, {}, "--container=mesos-1 --stop_timeout=3secs");
    const task = await running(stage, executor);
    const hello = stage.supervisor.lastHello;

    assert.ok(hello !== undefined && executor.token !== undefined);
    assert.equal(hello.pid, executor.pid);
    assert.equal(hello.containerId, executor.containerId);
    assert.equal(hello.agentId, stage.agent.agentId);
    assert.equal(hello.sandbox, executor.sandbox);
    assert.equal(hello.stdout.kind, "file");
    assert.equal(hello.environment.APP, "1");
    assert.deepEqual(hello.args, ["--container=mesos-1", "--stop_timeout=3secs"]);
    assert.equal(hello.shutdownGracePeriodMs, 5000);
    assert.ok(!JSON.stringify(stage.supervisor.heard).includes(executor.token));
    assert.ok(!logOf(executor).includes(executor.token));
    stage.supervisor.end(task.task_id.value, "TASK_FINISHED");
    assert.deepEqual(await executor.exited, { code: 0, signal: null });
  });

  test("over the agent's domain socket", async () => {
    await using stage = await WorkerStage.start({ transport: "domain-socket" });
    // A TCP address where nothing listens: only the socket can have served.
    const executor = stage.worker({ MESOS_AGENT_ENDPOINT: "127.0.0.1:1" });
    const task = await running(stage, executor);

    stage.supervisor.end(task.task_id.value, "TASK_FINISHED");

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
  });

  test("over TLS, where the executor's environment says so", async () => {
    await using stage = await WorkerStage.start({ tls: selfSigned() });
    const executor = stage.worker({ BERTH_AGENT_SCHEME: "https" });
    const task = await running(stage, executor);

    stage.supervisor.end(task.task_id.value, "TASK_FINISHED");

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.deepEqual(statesOf(executor, task), WHOLE_LIFE);
  });

  test("a TaskInfo of 8 MB, events of one byte each, and 64-bit numbers arrive whole and go back whole", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker();
    const task = newTask({ data: "x".repeat(8 * 1024 * 1024), max_completion_time: { nanoseconds: 9223372036854775807n } });
    executor.launch(task);
    await executor.waitForState(task.task_id.value, "TASK_RUNNING");
    const launched = stage.supervisor.heard.flatMap((message) =>
      message.type === "hello" || message.type === "launch" ? message.tasks : [],
    );
    assert.equal(String(launched[0]?.taskInfo.data).length, 8 * 1024 * 1024);
    assert.deepEqual(launched[0]?.taskInfo.max_completion_time, { nanoseconds: "9223372036854775807" });

    stage.agent.faults.deliverBytewise(true);
    const second = newTask();
    executor.launch(second);
    await executor.waitForState(second.task_id.value, "TASK_RUNNING");
    for (const each of [task, second]) stage.supervisor.end(each.task_id.value, "TASK_FINISHED");

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
  });

  test("10,000 events at once, and unknown ones, disturb nothing; messages go both ways", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker();
    const task = await running(stage, executor);
    const answers: string[] = [];
    executor.on("message", (data) => answers.push(data.toString()));

    stage.agent.faults.flood(10_000);
    executor.send({ type: "SOMETHING_NEW", something_new: {} });
    executor.send({ type: "ACKNOWLEDGED", acknowledged: { task_id: task.task_id, uuid: "AAAAAAAAQACAAAAAAAAAAA==" } });
    await waitFor(() => stage.supervisor.said("message").length === 10_000);
    stage.supervisor.send({ type: "message", data: Buffer.from("pong").toString("base64") });
    await waitFor(() => answers.length === 1);
    stage.supervisor.end(task.task_id.value, "TASK_FINISHED");

    assert.deepEqual(answers, ["pong"]);
    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.equal(executor.subscriptions, 1);
  });

  test("an equal update and one after the terminal are not sent", async () => {
    await using stage = await WorkerStage.start({ runs: false });
    const executor = stage.worker();
    const task = newTask();
    const taskId = task.task_id.value;
    executor.launch(task);
    await waitFor(() => stage.supervisor.said("launch").length === 1 || (stage.supervisor.lastHello?.tasks.length ?? 0) > 0);

    for (const healthy of [true, true, false]) {
      stage.supervisor.send({ type: "update", taskId, update: { state: "TASK_RUNNING", healthy } });
    }
    stage.supervisor.send({ type: "update", taskId, update: { state: "TASK_FAILED", message: "1" } });
    stage.supervisor.send({ type: "update", taskId, update: { state: "TASK_FINISHED" } });
    stage.supervisor.send({ type: "exit", code: 0 });

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.deepEqual(statesOf(executor, task), ["TASK_RUNNING", "TASK_RUNNING", "TASK_FAILED"]);
  });
});

describe("the stream breaks", () => {
  for (const how of ["clean", "eof", "reset"] as const) {
    test(`by ${how}: subscribed again at once, acknowledgements that were missed are made up`, async () => {
      await using stage = await WorkerStage.start();
      const executor = stage.worker();
      const task = await running(stage, executor);

      stage.agent.faults.holdAcknowledgements(true);
      stage.supervisor.end(task.task_id.value, "TASK_FINISHED");
      await executor.waitForState(task.task_id.value, "TASK_FINISHED");
      stage.agent.faults.dropStream(how);
      // Into the broken stream, where it is lost: only the next SUBSCRIBE can bring it back.
      stage.agent.faults.holdAcknowledgements(false);

      assert.deepEqual(await executor.exited, { code: 0, signal: null });
      assert.deepEqual(statesOf(executor, task), WHOLE_LIFE);
      assert.equal(executor.subscriptions, 2);
    });
  }

  test("in the middle of a record", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker();
    const task = await running(stage, executor);

    await stage.agent.faults.sendHalfRecord();
    await waitFor(() => executor.subscriptions === 2);
    executor.kill(task.task_id.value);

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.equal(statesOf(executor, task).at(-1), "TASK_KILLED");
  });

  test("by bytes that are no record", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker();
    const task = await running(stage, executor);

    executor.sendBytes(Buffer.from("no number\n"));
    await waitFor(() => executor.subscriptions === 2);
    executor.send({ no: "type" });
    await waitFor(() => executor.subscriptions === 3);
    stage.supervisor.end(task.task_id.value, "TASK_FINISHED");

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
  });

  test("a task that nothing was said of yet is not declared dropped", async () => {
    await using stage = await WorkerStage.start({ runs: false });
    const executor = stage.worker();
    const task = newTask();
    const taskId = task.task_id.value;
    executor.launch(task);
    await waitFor(() => stage.supervisor.heard.some((message) => "tasks" in message && message.tasks.length > 0));

    stage.agent.faults.dropStream("eof");
    await waitFor(() => executor.subscriptions === 2);
    stage.supervisor.send({ type: "update", taskId, update: { state: "TASK_FINISHED" } });
    stage.supervisor.send({ type: "exit", code: 0 });

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.deepEqual(statesOf(executor, task), ["TASK_FINISHED"]);
  });

  test("somebody else takes the stream: the worker takes it back once, without flapping", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker();
    const task = await running(stage, executor);

    const thief = await stage.agent.faults.secondStream(executor);
    await waitFor(() => executor.subscriptions === 3);
    stage.supervisor.end(task.task_id.value, "TASK_FINISHED");

    assert.equal(thief.status, 200);
    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.equal(executor.subscriptions, 3);
  });

  test("without checkpointing the tasks are stopped and the worker ends with 1", async () => {
    await using stage = await WorkerStage.start({ checkpoint: false });
    const executor = stage.worker();
    const task = await running(stage, executor);

    stage.agent.faults.dropStream("eof");

    assert.deepEqual(await executor.exited, { code: 1, signal: null });
    assert.ok(stage.supervisor.said("kill").some(({ taskId, wanted }) => taskId === task.task_id.value && wanted.cause === "agent"));
    assert.equal(executor.subscriptions, 1);
  });
});

describe("the agent restarts", () => {
  test("updates of the time in which it answers 503 arrive afterwards, in order", async () => {
    await using stage = await WorkerStage.start({ reregistrationTimeoutMs: 1500 });
    const executor = stage.worker();
    const task = await running(stage, executor);

    const restarted = stage.agent.faults.restart({ downMs: 300 });
    await waitFor(() => executor.subscriptions === 2);
    stage.supervisor.end(task.task_id.value, "TASK_FINISHED");
    await restarted;

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.deepEqual(statesOf(executor, task), WHOLE_LIFE);
  });

  test("on its domain socket, whose file is made anew", async () => {
    await using stage = await WorkerStage.start({ transport: "domain-socket", reregistrationTimeoutMs: 800 });
    const executor = stage.worker({ MESOS_AGENT_ENDPOINT: "127.0.0.1:1" });
    const task = await running(stage, executor);

    await stage.agent.faults.restart({ downMs: 200 });
    stage.supervisor.end(task.task_id.value, "TASK_FINISHED");

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.deepEqual(statesOf(executor, task), WHOLE_LIFE);
  });

  test("updates made while it is down arrive afterwards", async () => {
    await using stage = await WorkerStage.start({ reregistrationTimeoutMs: 1500 });
    const executor = stage.worker();
    const task = await running(stage, executor);

    const restarted = stage.agent.faults.restart({ downMs: 700 });
    await waitFor(() => !executor.connected);
    stage.supervisor.end(task.task_id.value, "TASK_FAILED");
    await restarted;

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.deepEqual(statesOf(executor, task), ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"]);
  });

  test("and forgets the executor: tasks are stopped, the worker ends with 1", async () => {
    await using stage = await WorkerStage.start({ reregistrationTimeoutMs: 500 });
    const executor = stage.worker();
    const task = await running(stage, executor);

    await stage.agent.faults.restart({ recover: false });

    assert.deepEqual(await executor.exited, { code: 1, signal: null });
    assert.ok(stage.supervisor.said("kill").some(({ taskId }) => taskId === task.task_id.value));
    assert.match(logOf(executor), /400.*cannot be found; stopping every task/);
  });

  test("and does not come back within the recovery timeout", async () => {
    await using stage = await WorkerStage.start({ recoveryTimeoutMs: 500 });
    const executor = stage.worker();
    await running(stage, executor);

    const restarted = stage.agent.faults.restart({ downMs: 3000 });
    await waitFor(() => executor.ended !== undefined);

    assert.equal(executor.ended?.code, 1);
    await restarted;
  });
});

describe("the agent's answers", () => {
  test("503 and 404 and a 403 of not being subscribed are waited out", async () => {
    await using stage = await WorkerStage.start();
    stage.agent.faults.rejectNext(404, "", "SUBSCRIBE");
    stage.agent.faults.rejectNext(503, "Agent has not finished recovery", "SUBSCRIBE");
    const executor = stage.worker();
    const task = await running(stage, executor);

    for (const status of [503, 404, 500]) stage.agent.faults.rejectNext(status, "not now", "UPDATE");
    stage.agent.faults.rejectNext(403, "Executor is not subscribed", "UPDATE");
    stage.supervisor.end(task.task_id.value, "TASK_FINISHED");

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.deepEqual(statesOf(executor, task), WHOLE_LIFE);
    assert.equal(executor.subscriptions, 2);
  });

  test("a 400 on an update is said once more with the required fields only", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker();
    const task = await running(stage, executor);

    stage.agent.faults.rejectNext(400, "Expecting something else", "UPDATE");
    stage.supervisor.end(task.task_id.value, "TASK_FAILED");
    const failed = await executor.waitForState(task.task_id.value, "TASK_FAILED");

    assert.equal(failed.message, undefined);
    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.match(logOf(executor), /BUG: the agent refuses an update of task t-\w+: Expecting something else/);
  });

  test("a terminal update that is refused twice ends the worker with 1, and the supervisor cleans up", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker();
    const task = await running(stage, executor);

    for (let time = 0; time < 2; time++) stage.agent.faults.rejectNext(400, "Expecting something else", "UPDATE");
    stage.supervisor.end(task.task_id.value, "TASK_FAILED");

    assert.deepEqual(await executor.exited, { code: 1, signal: null });
    assert.equal(stage.supervisor.said("acknowledged").at(-1)?.state, "TASK_FAILED");
  });

  for (const [status, text] of [
    [401, "invalid token"],
    [400, "Framework cannot be found"],
    [400, "Executor cannot be found"],
  ] as const) {
    test(`${status} ${text} on an update stops the tasks`, async () => {
      await using stage = await WorkerStage.start();
      const executor = stage.worker();
      const task = await running(stage, executor);

      stage.agent.faults.rejectNext(status, text, "UPDATE");
      stage.supervisor.send({ type: "update", taskId: task.task_id.value, update: { state: "TASK_RUNNING", healthy: true } });

      assert.deepEqual(await executor.exited, { code: 1, signal: null });
      assert.ok(stage.supervisor.said("kill").some(({ taskId }) => taskId === task.task_id.value));
    });
  }

  for (const [status, text] of [
    [401, "no token"],
    [400, "Framework cannot be found"],
    [403, "claims"],
  ] as const) {
    test(`${status} on the first SUBSCRIBE ends the worker with words about it`, async () => {
      await using stage = await WorkerStage.start();
      stage.agent.faults.rejectNext(status, text, "SUBSCRIBE");
      const executor = stage.worker();

      assert.deepEqual(await executor.exited, { code: 1, signal: null });
      assert.match(logOf(executor), new RegExp(`refuses SUBSCRIBE with ${status}: ${text}`));
      assert.equal(executor.subscriptions, 0);
    });
  }
});

describe("ends", () => {
  test("KILL carries its grace period; the task's end is the supervisor's to tell", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker();
    const task = await running(stage, executor);

    executor.kill("no-such-task");
    executor.kill(task.task_id.value, { gracePeriodMs: 1234 });

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.equal(statesOf(executor, task).at(-1), "TASK_KILLED");
    assert.deepEqual(
      stage.supervisor.said("kill").map(({ wanted }) => wanted.gracePeriodMs),
      [1234],
    );
    assert.match(logOf(executor), /no-such-task, which was never launched here/);
  });

  test("SIGTERM kills every task and ends with 0 after the acknowledgement", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker();
    const tasks = [await running(stage, executor), await running(stage, executor)];

    executor.crash("SIGTERM");

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    for (const task of tasks) assert.equal(statesOf(executor, task).at(-1), "TASK_KILLED");
    assert.ok(stage.supervisor.said("kill").every(({ wanted }) => wanted.cause === "signal"));
  });

  test("SIGTERM without a task", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker();
    await waitFor(() => executor.subscriptions === 1);

    executor.crash("SIGTERM");

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
  });

  test("SHUTDOWN stops every task within the grace period", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker();
    const task = await running(stage, executor);

    executor.shutdown();

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    assert.equal(statesOf(executor, task).at(-1), "TASK_KILLED");
    assert.deepEqual(
      stage.supervisor.said("shutdown").map(({ wanted }) => wanted.gracePeriodMs),
      [5000],
    );
  });

  test("SHUTDOWN of a torn-down framework does not wait for acknowledgements that never come", async () => {
    await using stage = await WorkerStage.start({ executorShutdownGraceMs: 3000 });
    const executor = stage.worker();
    await running(stage, executor);

    executor.shutdown({ framework: true });

    // The agent's SIGKILL comes after the grace period: a code says that the worker left before it.
    assert.deepEqual(await executor.exited, { code: 0, signal: null });
  });

  test("a group is launched as one and ends task by task", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker();
    const tasks = [newTask(), newTask()];
    const ids = tasks.map((task) => task.task_id.value);
    executor.launchGroup(tasks);
    for (const id of ids) await executor.waitForState(id, "TASK_RUNNING");

    const records = stage.supervisor.heard.flatMap((message) =>
      message.type === "hello" || message.type === "launch" ? message.tasks : [],
    );
    assert.deepEqual(
      records.map((record) => record.group),
      [ids, ids],
    );
    for (const id of ids) stage.supervisor.end(id, "TASK_FINISHED");

    assert.deepEqual(await executor.exited, { code: 0, signal: null });
    for (const task of tasks) assert.deepEqual(statesOf(executor, task), WHOLE_LIFE);
  });

  test("a wrong environment ends with 2 and says all that is wrong with it", async () => {
    await using stage = await WorkerStage.start();
    const executor = stage.worker({ MESOS_AGENT_ENDPOINT: "nowhere", EXECUTOR_SUPERVISOR_TIMEOUT: "soon", MESOS_EXECUTOR_ID: "" });

    assert.deepEqual(await executor.exited, { code: 2, signal: null });
    const log = readFileSync(`${executor.sandbox}/stderr`, "utf8");
    for (const name of ["MESOS_AGENT_ENDPOINT", "EXECUTOR_SUPERVISOR_TIMEOUT", "MESOS_EXECUTOR_ID"]) assert.ok(log.includes(name), log);
  });
});
