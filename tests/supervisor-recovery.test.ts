/**
 * The supervisor's own death, and everybody else's, at every step of a task's life: real dockerd, real berthd, and the worker's
 * end of the socket in the hands of the test, so that each step can be held open.
 */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, afterEach, before, describe, test } from "node:test";
import { LocalSupervisor } from "@berth/cli/local-supervisor";
import {
  BUSYBOX_IMAGE,
  type Dockerd,
  ScriptedWorker,
  startDockerd,
  startWorkerStandIn,
  type TempDir,
  tempDir,
  waitFor,
} from "@berth/test-harness";

interface ContainerInspect {
  Id: string;
  State: { StartedAt: string; Status: string };
}

let docker: Dockerd;
let folder: TempDir;
let supervisor: LocalSupervisor | undefined;
const workers: ScriptedWorker[] = [];
const processes: ChildProcess[] = [];

before(async () => {
  docker = await startDockerd({ liveRestore: true });
  folder = await tempDir("b");
});

afterEach(async () => {
  for (const worker of workers.splice(0)) await worker.disconnect();
  for (const child of processes.splice(0)) child.kill("SIGKILL");
  await supervisor?.stop();
  supervisor = undefined;
});

after(async () => {
  await docker?.stop();
  await folder?.[Symbol.asyncDispose]();
});

async function startSupervisor(environment: Record<string, string> = {}): Promise<LocalSupervisor> {
  supervisor = await LocalSupervisor.start({
    directory: folder.path,
    environment: { DOCKER_HOST: docker.host, EXECUTOR_ADOPTION_WINDOW: "3s", ...environment },
    logFile: `${folder.path}/berthd.log`,
  });
  return supervisor;
}

async function newWorker(more: { identity?: { pid: number; startTime: string }; capabilities?: string[] } = {}): Promise<ScriptedWorker> {
  const worker = new ScriptedWorker({ socket: (supervisor as LocalSupervisor).socket, sandbox: folder.path, ...more });
  workers.push(worker);
  await worker.connect();
  return worker;
}

function taskInfo(command: string, more: object = {}): { task_id: { value: string }; [field: string]: unknown } {
  return {
    name: "test",
    task_id: { value: `t-${randomBytes(5).toString("hex")}` },
    container: { type: "DOCKER", docker: { image: BUSYBOX_IMAGE, network: "NONE" } },
    command: { shell: true, value: command },
    ...more,
  };
}

async function containerOf(taskId: string): Promise<ContainerInspect | undefined> {
  const filters = encodeURIComponent(JSON.stringify({ label: [`berth.task-id=${taskId}`] }));
  const [found] = await docker.api.call<Array<{ Id: string }>>("GET", `/containers/json?all=1&filters=${filters}`);
  return found === undefined ? undefined : await docker.api.call<ContainerInspect>("GET", `/containers/${found.Id}/json`);
}

const TRAP = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

describe("kill -9 of the supervisor", () => {
  test("before the create: the launch is taken up again and runs once", async () => {
    await startSupervisor();
    const worker = await newWorker();
    const info = taskInfo("exit 7");
    worker.launch(info);
    await worker.update(info.task_id.value, "TASK_STARTING");

    await supervisor?.kill();
    await startSupervisor();
    await worker.connect();

    const failed = await worker.update(info.task_id.value, "TASK_FAILED");
    assert.deepEqual(failed.labels, [{ key: "berth.exit-code", value: "7" }]);
    assert.equal(await waitFor(async () => (await containerOf(info.task_id.value)) === undefined), true);
  });

  test("between create and start: it is started once", async () => {
    await startSupervisor();
    const worker = await newWorker();
    worker.holds = (_, data) => data.phase !== "starting";
    const info = taskInfo(TRAP);
    worker.launch(info);
    await waitFor(async () => (await containerOf(info.task_id.value))?.State.Status === "created");

    await supervisor?.kill();
    await startSupervisor();
    worker.holds = () => true;
    await worker.connect();

    await worker.update(info.task_id.value, "TASK_RUNNING");
    assert.equal((await containerOf(info.task_id.value))?.State.Status, "running");
    worker.kill(info.task_id.value);
    await worker.update(info.task_id.value, "TASK_KILLED");
  });

  test("after the start, before the update: the container is adopted and reported", async () => {
    await startSupervisor();
    const worker = await newWorker();
    const info = taskInfo(TRAP);
    const seen: string[] = [];
    worker.holds = (_, data) => {
      seen.push(String(data.phase));
      if (data.phase === "starting" && seen.filter((phase) => phase === "starting").length > 1)
        process.kill((supervisor as LocalSupervisor).pid, "SIGKILL");
      return true;
    };
    worker.launch(info);
    await waitFor(async () => (await containerOf(info.task_id.value))?.State.Status === "running");
    const before = await containerOf(info.task_id.value);
    await supervisor?.kill();

    worker.holds = () => true;
    await worker.disconnect();
    await startSupervisor();
    await worker.connect();
    await worker.update(info.task_id.value, "TASK_RUNNING");

    const after = await containerOf(info.task_id.value);
    assert.equal(after?.Id, before?.Id);
    assert.equal(after?.State.StartedAt, before?.State.StartedAt);
    worker.kill(info.task_id.value);
    await worker.update(info.task_id.value, "TASK_KILLED");
  });

  test("during a kill: the grace period goes on and ends when it would have", async () => {
    await startSupervisor();
    const worker = await newWorker({ capabilities: ["TASK_KILLING_STATE"] });
    const info = taskInfo("trap '' TERM; while :; do sleep 0.1; done");
    worker.launch(info);
    await worker.update(info.task_id.value, "TASK_RUNNING");
    worker.kill(info.task_id.value, 2000);
    await worker.update(info.task_id.value, "TASK_KILLING");

    await supervisor?.kill();
    await startSupervisor();
    await worker.connect();

    const killed = await worker.update(info.task_id.value, "TASK_KILLED");
    assert.match(killed.message ?? "", /exited with 137: killed by SIGKILL after the 2s grace period/);
    assert.deepEqual(worker.statesOf(info.task_id.value), ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"]);
  });

  test("a kill that arrives while it is away is carried out when it is back", async () => {
    await startSupervisor();
    const worker = await newWorker();
    const info = taskInfo(TRAP);
    worker.launch(info);
    await worker.update(info.task_id.value, "TASK_RUNNING");

    await supervisor?.kill();
    worker.kill(info.task_id.value);
    await startSupervisor();
    await worker.connect();

    assert.match((await worker.update(info.task_id.value, "TASK_KILLED")).message ?? "", /^killed on request of the framework/);
  });

  test("with 20 tasks: all still run, none is restarted, exits meanwhile are told with their real exit code", async () => {
    await startSupervisor();
    const worker = await newWorker();
    const staying = Array.from({ length: 15 }, () => taskInfo(TRAP));
    const leaving = Array.from({ length: 5 }, (_, index) => taskInfo(`while [ ! -e /tmp/go ]; do sleep 0.1; done; exit ${10 + index}`));
    for (const info of [...staying, ...leaving]) worker.launch(info);
    for (const info of [...staying, ...leaving]) await worker.update(info.task_id.value, "TASK_RUNNING", 60_000);
    const before = await Promise.all(staying.map((info) => containerOf(info.task_id.value)));

    await supervisor?.kill();
    for (const info of leaving) await execIn(info.task_id.value, ["touch", "/tmp/go"]);
    for (const info of leaving) await waitFor(async () => (await containerOf(info.task_id.value))?.State.Status === "exited");
    await startSupervisor();
    await worker.connect();

    for (const [index, info] of leaving.entries()) {
      const failed = await worker.update(info.task_id.value, "TASK_FAILED");
      assert.equal(failed.message?.split(";")[0], `container exited with ${10 + index}`);
    }
    const after = await Promise.all(staying.map((info) => containerOf(info.task_id.value)));
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
    await startSupervisor();
    const { identity, child } = stranger();
    const worker = await newWorker({ identity });
    const info = taskInfo(TRAP);
    worker.launch(info);
    await worker.update(info.task_id.value, "TASK_RUNNING");

    child.kill("SIGKILL");
    await worker.disconnect();

    await waitFor(async () => (await containerOf(info.task_id.value)) === undefined, { what: "the removal of the container" });
  });

  test("together with the supervisor's: the next supervisor removes the container", async () => {
    await startSupervisor();
    const { identity, child } = stranger();
    const worker = await newWorker({ identity });
    const info = taskInfo(TRAP);
    worker.launch(info);
    await worker.update(info.task_id.value, "TASK_RUNNING");

    await supervisor?.kill();
    child.kill("SIGKILL");
    await worker.disconnect();
    await startSupervisor();

    await waitFor(async () => (await containerOf(info.task_id.value)) === undefined, { what: "the removal of the container" });
  });

  test("a closed socket is none: a worker that lives keeps its container beyond the adoption window", async () => {
    await startSupervisor({ EXECUTOR_ADOPTION_WINDOW: "500ms" });
    const { identity } = stranger();
    const worker = await newWorker({ identity });
    const info = taskInfo(TRAP);
    worker.launch(info);
    await worker.update(info.task_id.value, "TASK_RUNNING");

    await worker.disconnect();
    const log = (): string => readFileSync(`${folder.path}/berthd.log`, "utf8");
    await waitFor(() => log().includes("a worker lives but does not connect"), { what: "the warning" });

    assert.equal((await containerOf(info.task_id.value))?.State.Status, "running");
    await worker.connect();
    worker.kill(info.task_id.value);
    await worker.update(info.task_id.value, "TASK_KILLED");
  });

  test("a second process cannot speak for an executor whose worker lives", async () => {
    await startSupervisor();
    const worker = await newWorker();
    const rival = new ScriptedWorker({
      socket: (supervisor as LocalSupervisor).socket,
      sandbox: folder.path,
      identity: stranger().identity,
    });
    workers.push(rival);
    Object.assign(rival.hello, { executorId: worker.hello.executorId, containerId: worker.hello.containerId });

    const answer = await rival.connect();

    assert.equal(answer.type, "refuse");
    assert.equal(answer.type === "refuse" && answer.retry, false);
    assert.equal(worker.connected, true);
  });
});

describe("dockerd's death", () => {
  test("with live-restore: tasks run on, and an exit meanwhile is told with its code", async () => {
    await startSupervisor();
    const worker = await newWorker();
    const staying = taskInfo(TRAP);
    const leaving = taskInfo("sleep 3; exit 9");
    worker.launch(staying);
    worker.launch(leaving);
    await worker.update(staying.task_id.value, "TASK_RUNNING");
    await worker.update(leaving.task_id.value, "TASK_RUNNING");
    const before = await containerOf(staying.task_id.value);

    await docker.kill();
    await new Promise((resolve) => setTimeout(resolve, 3500));
    await docker.start();

    assert.match((await worker.update(leaving.task_id.value, "TASK_FAILED", 60_000)).message ?? "", /^container exited with 9/);
    const after = await waitFor(() => containerOf(staying.task_id.value));
    assert.deepEqual([after.Id, after.State.StartedAt, after.State.Status], [before?.Id, before?.State.StartedAt, "running"]);
    worker.kill(staying.task_id.value);
    await worker.update(staying.task_id.value, "TASK_KILLED");
  });
});

function stranger(): ReturnType<typeof startWorkerStandIn> {
  const standIn = startWorkerStandIn();
  processes.push(standIn.child);
  return standIn;
}

async function execIn(taskId: string, argv: string[]): Promise<void> {
  const container = await containerOf(taskId);
  const { Id } = await docker.api.call<{ Id: string }>("POST", `/containers/${container?.Id}/exec`, { Cmd: argv });
  await docker.api.call("POST", `/exec/${Id}/start`, { Detach: true });
}
