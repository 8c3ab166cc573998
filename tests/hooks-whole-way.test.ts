/** Hooks as an operator sees them: a real Consul, a real berthd that dies at every moment, real containers. */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { after, afterEach, before, describe, test } from "node:test";
import type { TaskInfoInput } from "@berth/mesos/local-agent";
import {
  type ConsulServer,
  type Dockerd,
  type ScriptedWorker,
  sharedDockerd,
  skipWithout,
  startConsul,
  waitFor,
} from "@berth/test-harness";
import { DEAF, dockerTask, WAITING } from "./docker-tasks.ts";
import { ScriptedStage } from "./scripted-stage.ts";

const skip = skipWithout("consul");

describe("a service in Consul", { skip }, () => {
  let docker: Dockerd;
  let consul: ConsulServer;
  let stage: ScriptedStage;

  before(async () => {
    docker = await sharedDockerd();
    consul = await startConsul();
    stage = await ScriptedStage.on(docker, {
      CONSUL_HTTP_ADDR: consul.address,
      CLOUD_PUBLIC_IP: "127.0.0.1",
      EXECUTOR_ADOPTION_WINDOW: "2s",
    });
    await stage.startSupervisor();
  });

  afterEach(async () => {
    await stage?.endWorkers();
  });

  after(async () => {
    await stage?.[Symbol.asyncDispose]();
    await consul?.stop();
    await docker?.stop();
  });

  /** A worker whose process is another one, so that the test can kill it. */
  async function newWorker(): Promise<{ worker: ScriptedWorker; process: ChildProcess }> {
    const { identity, child: process } = stage.standIn();
    return { worker: await stage.worker({ identity }), process };
  }

  function service(name: string, command = WAITING): TaskInfoInput {
    return dockerTask(command, {
      name,
      labels: { labels: [{ key: "consul", value: name }] },
      discovery: { visibility: "CLUSTER", ports: { ports: [{ number: 31_999, name: "http", protocol: "tcp" }] } },
    });
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

    await stage.supervisor.kill();
    await stage.startSupervisor();
    await worker.connect();
    await waitFor(async () => (await stage.supervisor.admin.call<Array<{ phase: string }>>("GET", "/v1/tasks"))[0]?.phase === "running");
    assert.equal(await once("alpha"), true);

    worker.kill(info.task_id.value);
    await worker.update(info.task_id.value, "TASK_KILLED");
    assert.equal(await gone("alpha"), true);
  });

  test("is deregistered when its supervisor died in the middle of the kill", async () => {
    const { worker } = await newWorker();
    const info = service("beta", DEAF);
    worker.launch(info);
    await waitFor(() => once("beta"), { what: "the registration" });
    worker.kill(info.task_id.value, 1500);
    await waitFor(() => gone("beta"), { what: "the deregistration, which comes before the signal" });

    await stage.supervisor.kill();
    await stage.startSupervisor();
    await worker.connect();

    await worker.update(info.task_id.value, "TASK_KILLED");
    assert.equal(await gone("beta"), true);
  });

  test("is deregistered by the reaper when worker and supervisor died together", async () => {
    const { worker, process } = await newWorker();
    const info = service("gamma");
    worker.launch(info);
    await waitFor(() => once("gamma"), { what: "the registration" });

    await stage.supervisor.kill();
    process.kill("SIGKILL");
    await worker.disconnect();
    assert.equal(await once("gamma"), true);
    await stage.startSupervisor();

    await waitFor(() => gone("gamma"), { what: "the deregistration by the reaper" });
    await waitFor(async () => (await stage.supervisor.admin.call<unknown[]>("GET", "/v1/tasks")).length === 0, {
      what: "the end of the clean-up",
    });
  });
});
