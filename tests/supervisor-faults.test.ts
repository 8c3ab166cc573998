/** dockerd that hangs, dies or is not there yet, and people who handle containers behind our back. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { type Dockerd, type ScriptedWorker, startDockerd, startSocketProxy, waitFor } from "@berth/test-harness";
import { shellTask } from "./command-tasks-stage.ts";
import { containerOf, DEAF, dockerTask, WAITING } from "./docker-tasks.ts";
import { ScriptedStage } from "./scripted-stage.ts";

let docker: Dockerd;
let stage: ScriptedStage;

before(async () => {
  docker = await startDockerd();
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

function launch(worker: ScriptedWorker, command: string): string {
  const task = dockerTask(command);
  worker.launch(task);
  return task.task_id.value;
}

async function gone(taskId: string): Promise<void> {
  await waitFor(async () => (await containerOf(docker, taskId)) === undefined, { deadline: 40_000, what: "the removal of the container" });
}

describe("a dockerd that hangs", () => {
  test("a kill comes to its end all the same, also when the supervisor dies meanwhile", async () => {
    await using proxy = await startSocketProxy(docker.host);
    await stage.startSupervisor({ DOCKER_HOST: proxy.host });
    const worker = await stage.worker();
    const first = launch(worker, DEAF);
    const second = launch(worker, DEAF);
    await worker.update(first, "TASK_RUNNING");
    await worker.update(second, "TASK_RUNNING");

    proxy.freeze(true);
    worker.kill(first, 500);
    const killed = await worker.update(first, "TASK_KILLED", 60_000);
    assert.match(killed.message ?? "", /^killed on request of the framework; its process is gone, but its exit status is unknown/);
    assert.equal((await containerOf(docker, second))?.State, "running");

    await stage.supervisor.kill();
    worker.kill(second, 500);
    await stage.startSupervisor({ DOCKER_HOST: proxy.host });
    await worker.connect();
    await worker.update(second, "TASK_KILLED", 60_000);

    proxy.freeze(false);
    proxy.cut();
    await gone(first);
    await gone(second);
  });

  test("that is not there when the supervisor starts: the launch waits for it", async () => {
    await docker.kill();
    await stage.startSupervisor();
    const worker = await stage.worker();
    const id = launch(worker, "exit 5");
    await waitFor(async () => /"docker|dockerd/.test(await stage.supervisor.admin.text("/v1/info")));

    await docker.start();

    assert.match((await worker.update(id, "TASK_FAILED", 60_000)).message ?? "", /^container exited with 5/);
  });

  test("that is restarted without live restore ends its containers: told as what it was", async () => {
    await stage.startSupervisor();
    const worker = await stage.worker();
    const polite = launch(worker, WAITING);
    const deaf = launch(worker, DEAF);
    await worker.update(polite, "TASK_RUNNING");
    await worker.update(deaf, "TASK_RUNNING");

    await docker.restart();

    const states = await Promise.all([polite, deaf].map((id) => endOf(worker, id)));
    assert.match(states[0] ?? "", /^TASK_FINISHED container exited with 0$/);
    assert.match(states[1] ?? "", /^TASK_FAILED container exited with 137: killed by SIGKILL, which Berth did not send/);
  });
});

async function endOf(worker: ScriptedWorker, id: string): Promise<string> {
  const update = await waitFor(
    () => worker.updates.find(({ taskId, state }) => taskId === id && ["TASK_FINISHED", "TASK_FAILED", "TASK_KILLED"].includes(state)),
    { deadline: 60_000, what: `the end of ${id}` },
  );
  return `${update.state} ${update.message?.split("; last output")[0] ?? ""}`;
}

describe("behind our back", () => {
  test("a container that is removed is told to have vanished", async () => {
    await stage.startSupervisor();
    const worker = await stage.worker();
    const id = launch(worker, WAITING);
    await worker.update(id, "TASK_RUNNING");

    await docker.api.call("DELETE", `/containers/${(await containerOf(docker, id))?.Id}?force=1`);

    assert.match(await endOf(worker, id), /^TASK_FAILED container (.* vanished|exited with 137)/);
    await waitFor(() => worker.exitCode === 0);
  });

  test("a container that is renamed and paused is killed and removed all the same", async () => {
    await stage.startSupervisor();
    const worker = await stage.worker();
    const id = launch(worker, WAITING);
    await worker.update(id, "TASK_RUNNING");
    const container = await containerOf(docker, id);
    await docker.api.call("POST", `/containers/${container?.Id}/rename?name=other-${id}`);
    await docker.api.call("POST", `/containers/${container?.Id}/pause`);

    worker.kill(id, 1000);

    await worker.update(id, "TASK_KILLED", 60_000);
    await gone(id);
  });
});

describe("what is kept", () => {
  test("a failed task's container stays for its time, and is removed then, its worker here or gone", async () => {
    await stage.startSupervisor({ EXECUTOR_KEEP_FAILED: "3s" });
    const { identity, child } = stage.standIn();
    const worker = await stage.worker({ identity });
    const id = launch(worker, "exit 3");
    await worker.update(id, "TASK_FAILED");
    await waitFor(() => worker.exitCode === 0);
    assert.equal((await containerOf(docker, id))?.State, "exited");

    await worker.disconnect();
    child.kill("SIGKILL");

    await gone(id);
  });

  test("a group with one that is no task is refused whole", async () => {
    await stage.startSupervisor();
    const worker = await stage.worker();
    const fine = shellTask("true");
    worker.launch(fine, { task_id: { value: "none" } });

    assert.match((await worker.update("none", "TASK_ERROR")).message ?? "", /neither a Docker container/);
    assert.match((await worker.update(fine.task_id.value, "TASK_ERROR")).message ?? "", /of its group cannot be/);
  });
});
