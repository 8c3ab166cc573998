import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import { describe, type TestContext, test } from "node:test";
import { tempDir, waitFor } from "@berth/test-harness";
import type { LocalExecutor } from "./executor.ts";
import { LocalAgent } from "./local-agent.ts";
import type { LocalAgentOptions } from "./options.ts";
import { RawExecutor } from "./raw-executor-test-kit.ts";

interface Scene {
  agent: LocalAgent;
  executor: LocalExecutor;
  raw: RawExecutor;
}

/** An agent with one executor whose process only sleeps: the test speaks for it. */
async function scene(context: TestContext, options: Partial<LocalAgentOptions> = {}, command = "exec sleep 600"): Promise<Scene> {
  const directory = await tempDir("agent");
  const settings = { reapDelayMs: 0, reregistrationTimeoutMs: 300, checkpoint: true };
  const agent = await LocalAgent.start({ workDirectory: directory.path, ...settings, ...options });
  const executor = agent.startExecutor({ executorId: "e", command, environment: { PATH: "/usr/bin:/bin" } });
  const raw = new RawExecutor(agent, executor);
  context.after(async () => {
    raw.close();
    await agent.stop();
    await directory.remove();
  });
  return { agent, executor, raw };
}

const task = (value: string): { task_id: { value: string } } => ({ task_id: { value } });
const states = (executor: LocalExecutor): string[] => executor.updates.map((update) => `${update.task_id.value} ${update.state}`);
const uuidsOf = (events: ReadonlyArray<Record<string, unknown>>): string[] =>
  events.filter((event) => event.type === "ACKNOWLEDGED").map((event) => (event.acknowledged as { uuid: string }).uuid);
/** A zombie counts as gone: where pid 1 does not reap, an orphan stays one. */
const gone = (pid: number): boolean => {
  try {
    return readFileSync(`/proc/${pid}/stat`, "latin1").includes(") Z ");
  } catch {
    return true;
  }
};

describe("updates", () => {
  test("are forwarded once per uuid and acknowledged each time; nothing follows a terminal state", async (context) => {
    const { executor, raw } = await scene(context);
    executor.launch(task("t"));
    const stream = await raw.subscribe();
    const [running, finished, failed] = [
      raw.status("t", "TASK_RUNNING"),
      raw.status("t", "TASK_FINISHED"),
      raw.status("t", "TASK_FAILED"),
    ] as const;
    for (const status of [running, running, finished, failed]) assert.equal((await raw.update(status)).status, 202);
    await stream.next("ACKNOWLEDGED", 4);
    assert.deepEqual(uuidsOf(stream.events), [running.uuid, running.uuid, finished.uuid, failed.uuid]);
    assert.deepEqual(states(executor), ["t TASK_RUNNING", "t TASK_FINISHED"]);
  });

  test("for another agent are taken and never acknowledged", async (context) => {
    const { executor, raw } = await scene(context);
    executor.launch(task("t"));
    const stream = await raw.subscribe();
    assert.equal((await raw.update(raw.status("t", "TASK_RUNNING", { agent_id: { value: "other" } }))).status, 202);
    const right = raw.status("t", "TASK_RUNNING");
    await raw.update(right);
    await stream.next("ACKNOWLEDGED");
    assert.deepEqual(uuidsOf(stream.events), [right.uuid]);
  });

  test("sent while the stream is down reach the scheduler; listing them brings the acknowledgement and no second one", async (context) => {
    const { agent, executor, raw } = await scene(context);
    executor.launch(task("t"));
    const stream = await raw.subscribe();
    agent.faults.dropStream("eof");
    await waitFor(stream.ended);
    const running = raw.status("t", "TASK_RUNNING");
    assert.equal((await raw.update(running)).status, 202);
    await executor.waitForState("t", "TASK_RUNNING");
    const again = await raw.subscribe({ updates: [running] });
    await again.next("ACKNOWLEDGED");
    assert.equal(again.events[0]?.type, "SUBSCRIBED");
    assert.deepEqual(states(executor), ["t TASK_RUNNING"]);
  });

  test("wait for their acknowledgement while it is held", async (context) => {
    const { agent, executor, raw } = await scene(context);
    executor.launch(task("t"));
    const stream = await raw.subscribe();
    agent.faults.holdAcknowledgements(true);
    await raw.update(raw.status("t", "TASK_RUNNING"));
    executor.message("after");
    await stream.next("MESSAGE");
    assert.deepEqual(uuidsOf(stream.events), []);
    agent.faults.holdAcknowledgements(false);
    await stream.next("ACKNOWLEDGED");
  });
});

describe("streams", () => {
  for (const how of ["clean", "eof", "reset"] as const) {
    test(`end ${how} on demand`, async (context) => {
      const { agent, raw } = await scene(context);
      const stream = await raw.subscribe();
      agent.faults.dropStream(how);
      assert.equal(await waitFor(stream.ended), how);
    });
  }

  for (const [how, fits] of [
    ["bytewise", (chunks: number[], events: number) => chunks.every((size) => size === 1) && chunks.length > events],
    ["halves", (chunks: number[], events: number) => chunks.length === 2 * events],
    ["joined", (chunks: number[], events: number) => chunks.length < events],
    ["whole", (chunks: number[], events: number) => chunks.length === events],
  ] as const) {
    test(`are delivered ${how}`, async (context) => {
      const { agent, executor, raw } = await scene(context);
      agent.faults.deliver(how);
      executor.launch(task("a"));
      executor.launch(task("b"));
      const stream = await raw.subscribe();
      await stream.next("LAUNCH", 2);
      assert.ok(fits(stream.chunks, stream.events.length), `${stream.chunks.length} chunks for ${stream.events.length} events`);
    });
  }

  test("carry 10,000 events in order and 8 MB of data", async (context) => {
    const { agent, executor, raw } = await scene(context);
    const data = Buffer.alloc(8 * 1024 * 1024, 7).toString("base64");
    executor.launch({ ...task("t"), data });
    const stream = await raw.subscribe();
    const launch = (await stream.next("LAUNCH")).launch as { task: { data: string } };
    assert.equal(launch.task.data, data);
    agent.faults.flood(10_000);
    const last = (await stream.next("MESSAGE", 10_000)).message as { data: string };
    assert.equal(Buffer.from(last.data, "base64").toString(), "flood 9999");
  });

  test("are taken over by a second SUBSCRIBE: the old one ends with a last chunk", async (context) => {
    const { agent, executor, raw } = await scene(context);
    const stream = await raw.subscribe();
    const thief = await agent.faults.secondStream(executor);
    assert.equal(thief.status, 200);
    assert.equal(await waitFor(stream.ended), "clean");
    thief.close();
  });

  test("carry HEARTBEAT in the chosen interval", async (context) => {
    const { raw } = await scene(context, { heartbeatIntervalMs: 5 });
    await (await raw.subscribe()).next("HEARTBEAT", 2);
  });
});

describe("lost events", () => {
  test("a LAUNCH into a broken stream becomes TASK_DROPPED at the next SUBSCRIBE; a task that is listed is kept", async (context) => {
    const { agent, executor, raw } = await scene(context);
    executor.launch(task("kept"));
    const stream = await raw.subscribe();
    const kept = ((await stream.next("LAUNCH")).launch as { task: unknown }).task;
    agent.faults.dropStream("eof");
    await waitFor(stream.ended);
    executor.launch(task("lost"));
    const again = await raw.subscribe({ tasks: [kept] });
    await again.next("SUBSCRIBED");
    assert.deepEqual(states(executor), ["lost TASK_DROPPED"]);
    assert.equal(executor.updates[0]?.reason, "REASON_AGENT_RESTARTED");
  });

  test("an executor that does not list its only task hears SHUTDOWN instead of SUBSCRIBED", async (context) => {
    const { agent, executor, raw } = await scene(context);
    executor.launch(task("t"));
    const stream = await raw.subscribe();
    await stream.next("LAUNCH");
    agent.faults.dropStream("eof");
    await waitFor(stream.ended);
    const again = await raw.subscribe();
    await again.next("SHUTDOWN");
    assert.equal(again.events.length, 1);
    assert.deepEqual(states(executor), ["t TASK_DROPPED"]);
  });
});

describe("the executor's process", () => {
  test("its death fails its tasks and names its status", async (context) => {
    const { executor, raw } = await scene(context);
    const failures: number[] = [];
    executor.on("failure", (failure) => failures.push(failure.status));
    executor.launch(task("t"));
    await raw.subscribe();
    executor.crash();
    const failed = await executor.waitForState("t", "TASK_FAILED");
    assert.deepEqual([failed.reason, failed.source, failed.message], ["REASON_EXECUTOR_TERMINATED", "SOURCE_AGENT", "Executor terminated"]);
    assert.deepEqual(failures, [9]);
  });

  test("SHUTDOWN that is ignored ends in SIGKILL to everything that it started", async (context) => {
    const command = "(trap '' TERM; setsid sleep 601 & echo $! > daemon); sleep 600";
    const { executor, raw } = await scene(context, { executorShutdownGraceMs: 50 }, command);
    const daemon = Number(await waitFor(() => readFile(`${executor.sandbox}/daemon`, "utf8")));
    const stream = await raw.subscribe();
    executor.shutdown();
    await stream.next("SHUTDOWN");
    assert.deepEqual(await executor.exited, { code: null, signal: "SIGKILL" });
    assert.ok(gone(daemon));
  });

  test("one that never subscribes is destroyed at the registration timeout", async (context) => {
    const { executor } = await scene(context, { registrationTimeoutMs: 50 });
    executor.launch(task("t"));
    assert.equal((await executor.waitForState("t", "TASK_FAILED")).reason, "REASON_EXECUTOR_REGISTRATION_TIMEOUT");
  });
});

describe("a restarted agent", () => {
  test("takes SUBSCRIBE but no UPDATE until the window is over", async (context) => {
    const { agent, executor, raw } = await scene(context);
    executor.launch(task("t"));
    const stream = await raw.subscribe();
    await raw.update(raw.status("t", "TASK_RUNNING"));
    const restarted = agent.faults.restart();
    await waitFor(stream.ended);
    await waitFor(() => agent.phase === "reregistering");
    await raw.subscribe();
    const finished = raw.status("t", "TASK_FINISHED");
    assert.equal((await raw.update(finished)).status, 503);
    await restarted;
    assert.equal((await raw.update(finished)).status, 202);
    await executor.waitForState("t", "TASK_FINISHED");
  });

  test("refuses connections while it is down", async (context) => {
    const { agent } = await scene(context);
    const restarted = agent.faults.restart({ downMs: 200 });
    const { promise, resolve } = Promise.withResolvers<string | undefined>();
    await waitFor(() => {
      const socket = connect({ host: "127.0.0.1", port: agent.port });
      socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code)).on("connect", () => socket.destroy());
      return true;
    });
    assert.equal(await promise, "ECONNREFUSED");
    await restarted;
  });

  test("destroys who is not back in time", async (context) => {
    const { agent, executor, raw } = await scene(context);
    executor.launch(task("t"));
    await raw.subscribe();
    await raw.update(raw.status("t", "TASK_RUNNING"));
    await agent.faults.restart();
    assert.equal((await executor.waitForState("t", "TASK_GONE")).reason, "REASON_EXECUTOR_REREGISTRATION_TIMEOUT");
    assert.equal((await executor.exited).signal, "SIGKILL");
  });

  test("knows nobody without checkpointing, and kills nobody", async (context) => {
    const { agent, executor, raw } = await scene(context, { checkpoint: false });
    executor.launch(task("t"));
    await raw.subscribe();
    await agent.faults.restart();
    const answer = await raw.send({ type: "SUBSCRIBE", subscribe: {} });
    assert.deepEqual([answer.status, answer.body], [400, "Framework cannot be found"]);
    assert.deepEqual(states(executor), ["t TASK_LOST"]);
    assert.ok(!gone(executor.pid as number));
  });
});

describe("answers on demand", () => {
  test("503 for a while, and single refusals of one type", async (context) => {
    const { agent, executor, raw } = await scene(context);
    executor.launch(task("t"));
    await raw.subscribe();
    agent.faults.rejectNext(400, "no", "UPDATE");
    assert.equal((await raw.send({ type: "HEARTBEAT" })).status, 202);
    const refused = await raw.update(raw.status("t", "TASK_RUNNING"));
    assert.deepEqual([refused.status, refused.body], [400, "no"]);
    agent.faults.answer503For(60_000);
    assert.equal((await raw.send({ type: "HEARTBEAT" })).status, 503);
    agent.faults.answer503For(0);
    assert.equal((await raw.send({ type: "UNKNOWN" })).status, 501);
  });

  test("403 for another executor's token", async (context) => {
    const { agent, executor } = await scene(context, { authentication: true });
    const other = agent.startExecutor({ executorId: "other", command: "exec sleep 600", environment: { PATH: "/usr/bin:/bin" } });
    const thief = new RawExecutor(agent, Object.assign(Object.create(executor), { executorId: "e", token: other.token }));
    const answer = await thief.send({ type: "SUBSCRIBE", subscribe: {} });
    assert.equal(answer.status, 403);
    assert.match(answer.body, /'eid' claim/);
  });
});

describe("kills and messages", () => {
  test("a KILL carries its grace period; a queued task is killed without the executor hearing of it", async (context) => {
    const { executor, raw } = await scene(context);
    executor.launch(task("a"));
    executor.launch(task("b"));
    executor.kill("b");
    assert.deepEqual(states(executor), ["b TASK_KILLED"]);
    const stream = await raw.subscribe();
    executor.kill("a", { gracePeriodMs: 1500 });
    const kill = await stream.next("KILL");
    assert.deepEqual(kill.kill, { task_id: { value: "a" }, kill_policy: { grace_period: { nanoseconds: 1_500_000_000 } } });
    assert.equal(stream.events.filter((event) => event.type === "LAUNCH").length, 1);
  });

  test("messages go both ways, bytes untouched", async (context) => {
    const { executor, raw } = await scene(context);
    const stream = await raw.subscribe();
    const bytes = Buffer.from([0, 255, 10]);
    executor.message(bytes);
    assert.deepEqual((await stream.next("MESSAGE")).message, { data: bytes.toString("base64") });
    const received: Buffer[] = [];
    executor.on("message", (data) => received.push(data));
    await raw.send({ type: "MESSAGE", message: { data: bytes.toString("base64") } });
    assert.deepEqual(received, [bytes]);
  });

  test("a group comes in one LAUNCH_GROUP", async (context) => {
    const { executor, raw } = await scene(context);
    executor.launchGroup([task("a"), task("b")]);
    const launch = await (await raw.subscribe()).next("LAUNCH_GROUP");
    const { tasks } = (launch.launch_group as { task_group: { tasks: Array<{ executor: { type: string } }> } }).task_group;
    assert.deepEqual(
      tasks.map((entry) => entry.executor.type),
      ["CUSTOM", "CUSTOM"],
    );
  });
});
