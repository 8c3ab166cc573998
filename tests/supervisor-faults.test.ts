/** dockerd that hangs, dies or is not there yet, and people who handle containers behind our back. */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { after, afterEach, before, describe, test } from "node:test";
import { LocalSupervisor } from "@berth/cli/local-supervisor";
import {
  BUSYBOX_IMAGE,
  type Dockerd,
  ScriptedWorker,
  startDockerd,
  startSocketProxy,
  startWorkerStandIn,
  type TempDir,
  tempDir,
  waitFor,
} from "@berth/test-harness";

let docker: Dockerd;
let folder: TempDir;
let supervisor: LocalSupervisor | undefined;
const workers: ScriptedWorker[] = [];
const processes: ChildProcess[] = [];

before(async () => {
  docker = await startDockerd();
  folder = await tempDir("g");
});

afterEach(async () => {
  for (const worker of workers.splice(0)) await worker.disconnect();
  for (const child of processes.splice(0)) child.kill("SIGKILL");
  await supervisor?.stop();
  supervisor = undefined;
});

after(async () => {
  await docker?.stop();
  await folder?.remove();
});

async function start(environment: Record<string, string> = {}): Promise<LocalSupervisor> {
  supervisor = await LocalSupervisor.start({
    directory: folder.path,
    environment: { DOCKER_HOST: docker.host, EXECUTOR_ADOPTION_WINDOW: "3s", ...environment },
    logFile: `${folder.path}/berthd.log`,
  });
  return supervisor;
}

async function newWorker(identity?: { pid: number; startTime: string }): Promise<ScriptedWorker> {
  const worker = new ScriptedWorker({
    socket: (supervisor as LocalSupervisor).socket,
    sandbox: folder.path,
    ...(identity === undefined ? {} : { identity }),
  });
  workers.push(worker);
  await worker.connect();
  return worker;
}

function launch(worker: ScriptedWorker, command: string): string {
  const id = `g-${randomBytes(5).toString("hex")}`;
  worker.launch({
    task_id: { value: id },
    container: { type: "DOCKER", docker: { image: BUSYBOX_IMAGE, network: "NONE" } },
    command: { shell: true, value: command },
  });
  return id;
}

async function containerOf(taskId: string): Promise<{ Id: string; Names: string[]; State: string } | undefined> {
  const filters = encodeURIComponent(JSON.stringify({ label: [`berth.task-id=${taskId}`] }));
  return (
    await docker.api.call<Array<{ Id: string; Names: string[]; State: string }>>("GET", `/containers/json?all=1&filters=${filters}`)
  )[0];
}

async function gone(taskId: string): Promise<void> {
  await waitFor(async () => (await containerOf(taskId)) === undefined, { deadline: 40_000, what: "the removal of the container" });
}

const DEAF = "trap '' TERM; while :; do sleep 0.1; done";
const POLITE = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

describe("a dockerd that hangs", () => {
  test("a kill comes to its end all the same, also when the supervisor dies meanwhile", async () => {
    await using proxy = await startSocketProxy(docker.host);
    await start({ DOCKER_HOST: proxy.host });
    const worker = await newWorker();
    const first = launch(worker, DEAF);
    const second = launch(worker, DEAF);
    await worker.update(first, "TASK_RUNNING");
    await worker.update(second, "TASK_RUNNING");

    proxy.freeze(true);
    worker.kill(first, 500);
    const killed = await worker.update(first, "TASK_KILLED", 60_000);
    assert.match(killed.message ?? "", /^killed on request of the framework; its process is gone, but its exit status is unknown/);
    assert.equal((await containerOf(second))?.State, "running");

    await supervisor?.kill();
    worker.kill(second, 500);
    await start({ DOCKER_HOST: proxy.host });
    await worker.connect();
    await worker.update(second, "TASK_KILLED", 60_000);

    proxy.freeze(false);
    proxy.cut();
    await gone(first);
    await gone(second);
  });

  test("that is not there when the supervisor starts: the launch waits for it", async () => {
    await docker.kill();
    await start();
    const worker = await newWorker();
    const id = launch(worker, "exit 5");
    await waitFor(async () => /"docker|dockerd/.test(await (supervisor as LocalSupervisor).admin.text("/v1/info")));

    await docker.start();

    assert.match((await worker.update(id, "TASK_FAILED", 60_000)).message ?? "", /^container exited with 5/);
  });

  test("that is restarted without live restore ends its containers: told as what it was", async () => {
    await start();
    const worker = await newWorker();
    const polite = launch(worker, POLITE);
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
    await start();
    const worker = await newWorker();
    const id = launch(worker, POLITE);
    await worker.update(id, "TASK_RUNNING");

    await docker.api.call("DELETE", `/containers/${(await containerOf(id))?.Id}?force=1`);

    assert.match(await endOf(worker, id), /^TASK_FAILED container (.* vanished|exited with 137)/);
    await waitFor(() => worker.exitCode === 0);
  });

  test("a container that is renamed and paused is killed and removed all the same", async () => {
    await start();
    const worker = await newWorker();
    const id = launch(worker, POLITE);
    await worker.update(id, "TASK_RUNNING");
    const container = await containerOf(id);
    await docker.api.call("POST", `/containers/${container?.Id}/rename?name=other-${id}`);
    await docker.api.call("POST", `/containers/${container?.Id}/pause`);

    worker.kill(id, 1000);

    await worker.update(id, "TASK_KILLED", 60_000);
    await gone(id);
  });
});

describe("what is kept", () => {
  test("a failed task's container stays for its time, and is removed then, its worker here or gone", async () => {
    await start({ EXECUTOR_KEEP_FAILED: "3s" });
    const { identity, child } = startWorkerStandIn();
    processes.push(child);
    const worker = await newWorker(identity);
    const id = launch(worker, "exit 3");
    await worker.update(id, "TASK_FAILED");
    await waitFor(() => worker.exitCode === 0);
    assert.equal((await containerOf(id))?.State, "exited");

    await worker.disconnect();
    child.kill("SIGKILL");

    await gone(id);
  });

  test("a group with one that is no task is refused whole", async () => {
    await start();
    const worker = await newWorker();
    const fine = `g-${randomBytes(5).toString("hex")}`;
    const none = `g-${randomBytes(5).toString("hex")}`;
    worker.launch({ task_id: { value: fine }, command: { value: "true" } }, { task_id: { value: none } });

    assert.match((await worker.update(none, "TASK_ERROR")).message ?? "", /neither a Docker container/);
    assert.match((await worker.update(fine, "TASK_ERROR")).message ?? "", /of its group cannot be/);
  });
});
