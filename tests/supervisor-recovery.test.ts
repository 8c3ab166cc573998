/**
 * The supervisor's own death, and everybody else's, at every step of a task's life: real dockerd, real berthd, and the worker's
 * end of the socket in the hands of the test, so that each step can be held open.
 */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { type Dockerd, startDockerd, waitFor } from "@berth/test-harness";
import { containerOf, DEAF, dockerTask, WAITING } from "./docker-tasks.ts";
import { ScriptedStage } from "./scripted-stage.ts";

interface ContainerInspect {
  Id: string;
  State: { StartedAt: string; Status: string };
}

let docker: Dockerd;
let stage: ScriptedStage;

before(async () => {
  docker = await startDockerd({ liveRestore: true });
  stage = await ScriptedStage.on(docker, { EXECUTOR_ADOPTION_WINDOW: "3s" });
});

afterEach(async () => {
  await stage?.endWorkers();
  await stage?.stopSupervisor();
});

after(async () => {
  await stage?.[Symbol.asyncDispose]();
  await docker?.stop();
});

async function inspect(taskId: string): Promise<ContainerInspect | undefined> {
  const found = await containerOf(docker, taskId);
  return found === undefined ? undefined : await docker.api.call<ContainerInspect>("GET", `/containers/${found.Id}/json`);
}

describe("kill -9 of the supervisor", () => {
  test("before the create: the launch is taken up again and runs once", async () => {
    await stage.startSupervisor();
    const worker = await stage.worker();
    const info = dockerTask("exit 7");
    worker.launch(info);
    await worker.update(info.task_id.value, "TASK_STARTING");

    await stage.supervisor.kill();
    await stage.startSupervisor();
    await worker.connect();

    const failed = await worker.update(info.task_id.value, "TASK_FAILED");
    assert.deepEqual(failed.labels, [{ key: "berth.exit-code", value: "7" }]);
    assert.equal(await waitFor(async () => (await inspect(info.task_id.value)) === undefined), true);
  });

  test("between create and start: it is started once", async () => {
    await stage.startSupervisor();
    const worker = await stage.worker();
    worker.holds = (_, data) => data.phase !== "starting";
    const info = dockerTask(WAITING);
    worker.launch(info);
    await waitFor(async () => (await inspect(info.task_id.value))?.State.Status === "created");

    await stage.supervisor.kill();
    await stage.startSupervisor();
    worker.holds = () => true;
    await worker.connect();

    await worker.update(info.task_id.value, "TASK_RUNNING");
    assert.equal((await inspect(info.task_id.value))?.State.Status, "running");
    worker.kill(info.task_id.value);
    await worker.update(info.task_id.value, "TASK_KILLED");
  });

  test("after the start, before the update: the container is adopted and reported", async () => {
    await stage.startSupervisor();
    const worker = await stage.worker();
    const info = dockerTask(WAITING);
    const seen: string[] = [];
    worker.holds = (_, data) => {
      seen.push(String(data.phase));
      if (data.phase === "starting" && seen.filter((phase) => phase === "starting").length > 1)
        process.kill(stage.supervisor.pid, "SIGKILL");
      return true;
    };
    worker.launch(info);
    await waitFor(async () => (await inspect(info.task_id.value))?.State.Status === "running");
    const before = await inspect(info.task_id.value);
    await stage.supervisor.kill();

    worker.holds = () => true;
    await worker.disconnect();
    await stage.startSupervisor();
    await worker.connect();
    await worker.update(info.task_id.value, "TASK_RUNNING");

    const after = await inspect(info.task_id.value);
    assert.equal(after?.Id, before?.Id);
    assert.equal(after?.State.StartedAt, before?.State.StartedAt);
    worker.kill(info.task_id.value);
    await worker.update(info.task_id.value, "TASK_KILLED");
  });

  test("during a kill: the grace period goes on and ends when it would have", async () => {
    await stage.startSupervisor();
    const worker = await stage.worker({ capabilities: ["TASK_KILLING_STATE"] });
    const info = dockerTask(DEAF);
    worker.launch(info);
    await worker.update(info.task_id.value, "TASK_RUNNING");
    worker.kill(info.task_id.value, 2000);
    await worker.update(info.task_id.value, "TASK_KILLING");

    await stage.supervisor.kill();
    await stage.startSupervisor();
    await worker.connect();

    const killed = await worker.update(info.task_id.value, "TASK_KILLED");
    assert.match(killed.message ?? "", /exited with 137: killed by SIGKILL after the 2s grace period/);
    assert.deepEqual(worker.statesOf(info.task_id.value), ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"]);
  });

  test("a kill that arrives while it is away is carried out when it is back", async () => {
    await stage.startSupervisor();
    const worker = await stage.worker();
    const info = dockerTask(WAITING);
    worker.launch(info);
    await worker.update(info.task_id.value, "TASK_RUNNING");

    await stage.supervisor.kill();
    worker.kill(info.task_id.value);
    await stage.startSupervisor();
    await worker.connect();

    assert.match((await worker.update(info.task_id.value, "TASK_KILLED")).message ?? "", /^killed on request of the framework/);
  });

  test("with 20 tasks: all still run, none is restarted, exits meanwhile are told with their real exit code", async () => {
    await stage.startSupervisor();
    const worker = await stage.worker();
    const staying = Array.from({ length: 15 }, () => dockerTask(WAITING));
    const leaving = Array.from({ length: 5 }, (_, index) => dockerTask(`while [ ! -e /tmp/go ]; do sleep 0.1; done; exit ${10 + index}`));
    for (const info of [...staying, ...leaving]) worker.launch(info);
    for (const info of [...staying, ...leaving]) await worker.update(info.task_id.value, "TASK_RUNNING", 60_000);
    const before = await Promise.all(staying.map((info) => inspect(info.task_id.value)));

    await stage.supervisor.kill();
    for (const info of leaving) await execIn(info.task_id.value, ["touch", "/tmp/go"]);
    for (const info of leaving) await waitFor(async () => (await inspect(info.task_id.value))?.State.Status === "exited");
    await stage.startSupervisor();
    await worker.connect();

    for (const [index, info] of leaving.entries()) {
      const failed = await worker.update(info.task_id.value, "TASK_FAILED");
      assert.equal(failed.message?.split(";")[0], `container exited with ${10 + index}`);
    }
    const after = await Promise.all(staying.map((info) => inspect(info.task_id.value)));
    assert.deepEqual(
      after.map((container) => [container?.Id, container?.State.StartedAt, container?.State.Status]),
      before.map((container) => [container?.Id, container?.State.StartedAt, "running"]),
    );
    for (const info of staying) worker.kill(info.task_id.value);
    for (const info of staying) await worker.update(info.task_id.value, "TASK_KILLED", 60_000);
  });
});

describe("the death of a worker", () => {
  test("its container is stopped and removed", async () => {
    await stage.startSupervisor();
    const { identity, child } = stage.standIn();
    const worker = await stage.worker({ identity });
    const info = dockerTask(WAITING);
    worker.launch(info);
    await worker.update(info.task_id.value, "TASK_RUNNING");

    child.kill("SIGKILL");
    await worker.disconnect();

    await waitFor(async () => (await inspect(info.task_id.value)) === undefined, { what: "the removal of the container" });
  });

  test("together with the supervisor's: the next supervisor removes the container", async () => {
    await stage.startSupervisor();
    const { identity, child } = stage.standIn();
    const worker = await stage.worker({ identity });
    const info = dockerTask(WAITING);
    worker.launch(info);
    await worker.update(info.task_id.value, "TASK_RUNNING");

    await stage.supervisor.kill();
    child.kill("SIGKILL");
    await worker.disconnect();
    await stage.startSupervisor();

    await waitFor(async () => (await inspect(info.task_id.value)) === undefined, { what: "the removal of the container" });
  });

  test("a closed socket is none: a worker that lives keeps its container beyond the adoption window", async () => {
    await stage.startSupervisor({ EXECUTOR_ADOPTION_WINDOW: "500ms" });
    const { identity } = stage.standIn();
    const worker = await stage.worker({ identity });
    const info = dockerTask(WAITING);
    worker.launch(info);
    await worker.update(info.task_id.value, "TASK_RUNNING");

    await worker.disconnect();
    await waitFor(() => stage.log().includes("a worker lives but does not connect"), { what: "the warning" });

    assert.equal((await inspect(info.task_id.value))?.State.Status, "running");
    await worker.connect();
    worker.kill(info.task_id.value);
    await worker.update(info.task_id.value, "TASK_KILLED");
  });

  test("a second process cannot speak for an executor whose worker lives", async () => {
    await stage.startSupervisor();
    const worker = await stage.worker();
    const rival = stage.newWorker({ identity: stage.standIn().identity });
    Object.assign(rival.hello, { executorId: worker.hello.executorId, containerId: worker.hello.containerId });

    const answer = await rival.connect();

    assert.equal(answer.type, "refuse");
    assert.equal(answer.type === "refuse" && answer.retry, false);
    assert.equal(worker.connected, true);
  });
});

describe("dockerd's death", () => {
  test("with live-restore: tasks run on, and an exit meanwhile is told with its code", async () => {
    await stage.startSupervisor();
    const worker = await stage.worker();
    const staying = dockerTask(WAITING);
    const leaving = dockerTask("sleep 3; exit 9");
    worker.launch(staying);
    worker.launch(leaving);
    await worker.update(staying.task_id.value, "TASK_RUNNING");
    await worker.update(leaving.task_id.value, "TASK_RUNNING");
    const before = await inspect(staying.task_id.value);

    await docker.kill();
    await new Promise((resolve) => setTimeout(resolve, 3500));
    await docker.start();

    assert.match((await worker.update(leaving.task_id.value, "TASK_FAILED", 60_000)).message ?? "", /^container exited with 9/);
    const after = await waitFor(() => inspect(staying.task_id.value));
    assert.deepEqual([after.Id, after.State.StartedAt, after.State.Status], [before?.Id, before?.State.StartedAt, "running"]);
    worker.kill(staying.task_id.value);
    await worker.update(staying.task_id.value, "TASK_KILLED");
  });
});

async function execIn(taskId: string, argv: string[]): Promise<void> {
  const container = await inspect(taskId);
  const { Id } = await docker.api.call<{ Id: string }>("POST", `/containers/${container?.Id}/exec`, { Cmd: argv });
  await docker.api.call("POST", `/exec/${Id}/start`, { Detach: true });
}
