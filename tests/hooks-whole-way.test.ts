/** Hooks as an operator sees them: a real Consul, a real berthd that dies at every moment, real containers. */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { after, afterEach, before, describe, test } from "node:test";
import { LocalSupervisor } from "@berth/cli/local-supervisor";
import {
  BUSYBOX_IMAGE,
  type ConsulServer,
  type Dockerd,
  ScriptedWorker,
  sharedDockerd,
  skipWithout,
  startConsul,
  startWorkerStandIn,
  type TempDir,
  tempDir,
  waitFor,
} from "@berth/test-harness";

const skip = skipWithout("consul");
const TRAP = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

describe("a service in Consul", { skip }, () => {
  let docker: Dockerd;
  let consul: ConsulServer;
  let folder: TempDir;
  let supervisor: LocalSupervisor;
  const workers: ScriptedWorker[] = [];
  const strangers: ChildProcess[] = [];

  before(async () => {
    docker = await sharedDockerd();
    consul = await startConsul();
    folder = await tempDir("h");
    supervisor = await start();
  });

  afterEach(async () => {
    for (const worker of workers.splice(0)) await worker.disconnect();
    for (const stranger of strangers.splice(0)) stranger.kill("SIGKILL");
  });

  after(async () => {
    await supervisor?.stop();
    await consul?.stop();
    await docker?.stop();
    await folder?.remove();
  });

  async function start(): Promise<LocalSupervisor> {
    return await LocalSupervisor.start({
      directory: folder.path,
      environment: {
        DOCKER_HOST: docker.host,
        CONSUL_HTTP_ADDR: consul.address,
        CLOUD_PUBLIC_IP: "127.0.0.1",
        EXECUTOR_ADOPTION_WINDOW: "2s",
      },
      logFile: `${folder.path}/berthd.log`,
    });
  }

  /** A worker whose process is another one, so that the test can kill it. */
  async function newWorker(): Promise<{ worker: ScriptedWorker; process: ChildProcess }> {
    const { identity, child: process } = startWorkerStandIn();
    strangers.push(process);
    const worker = new ScriptedWorker({ socket: supervisor.socket, sandbox: folder.path, identity });
    workers.push(worker);
    await worker.connect();
    return { worker, process };
  }

  function service(name: string): { task_id: { value: string }; [field: string]: unknown } {
    return {
      name,
      task_id: { value: `${name}-${randomBytes(4).toString("hex")}` },
      labels: { labels: [{ key: "consul", value: name }] },
      discovery: { visibility: "CLUSTER", ports: { ports: [{ number: 31_999, name: "http", protocol: "tcp" }] } },
      container: { type: "DOCKER", docker: { image: BUSYBOX_IMAGE, network: "NONE" } },
      command: { value: TRAP },
    };
  }

  async function registered(name: string): Promise<string[]> {
    const answer = (await (await fetch(`${consul.address}/v1/agent/services`)).json()) as Record<string, { ID: string; Service: string }>;
    return Object.values(answer)
      .filter((each) => each.Service === name)
      .map((each) => each.ID);
  }

  const once = async (name: string): Promise<boolean> => (await registered(name)).length === 1;
  const gone = async (name: string): Promise<boolean> => (await registered(name)).length === 0;

  test("is registered when it runs, once also after the supervisor's death, and deregistered before the signal of a kill", async () => {
    const { worker } = await newWorker();
    const info = service("alpha");
    worker.launch(info);
    await worker.update(info.task_id.value, "TASK_RUNNING");
    await waitFor(() => once("alpha"), { what: "the registration" });

    await supervisor.kill();
    supervisor = await start();
    await worker.connect();
    await waitFor(async () => (await supervisor.admin.call<Array<{ phase: string }>>("GET", "/v1/tasks"))[0]?.phase === "running");
    assert.equal(await once("alpha"), true);

    worker.kill(info.task_id.value);
    await worker.update(info.task_id.value, "TASK_KILLED");
    assert.equal(await gone("alpha"), true);
  });

  test("is deregistered when its supervisor died in the middle of the kill", async () => {
    const { worker } = await newWorker();
    const info = { ...service("beta"), command: { value: "trap '' TERM; while :; do sleep 0.1; done" } };
    worker.launch(info);
    await waitFor(() => once("beta"), { what: "the registration" });
    worker.kill(info.task_id.value, 1500);
    await waitFor(() => gone("beta"), { what: "the deregistration, which comes before the signal" });

    await supervisor.kill();
    supervisor = await start();
    await worker.connect();

    await worker.update(info.task_id.value, "TASK_KILLED");
    assert.equal(await gone("beta"), true);
  });

  test("is deregistered by the reaper when worker and supervisor died together", async () => {
    const { worker, process } = await newWorker();
    const info = service("gamma");
    worker.launch(info);
    await waitFor(() => once("gamma"), { what: "the registration" });

    await supervisor.kill();
    process.kill("SIGKILL");
    await worker.disconnect();
    assert.equal(await once("gamma"), true);
    supervisor = await start();

    await waitFor(() => gone("gamma"), { what: "the deregistration by the reaper" });
    await waitFor(async () => (await supervisor.admin.call<unknown[]>("GET", "/v1/tasks")).length === 0, {
      what: "the end of the clean-up",
    });
  });
});
