import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { freePort, type RunningProcess, startProcess } from "@berth/test-harness";
import { VaasConfig } from "../config.ts";
import type { HookTask } from "../lifecycle.ts";
import { ENDED, hookTask, KILLED, labels, TestSupervisor } from "../test-kit.ts";
import { vaasHook } from "./vaas-hook.ts";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const python = `${root}.cache/vaas-venv/bin/python`;
/** `python3 -m venv .cache/vaas-venv && .cache/vaas-venv/bin/pip install -r tests/servers/vaas-contract/requirements.txt` */
const skip = existsSync(python) ? false : "no Python with Django in .cache/vaas-venv: VaaS's contract is NOT tested";
if (skip !== false) process.emitWarning(skip);

describe("with the contract server", { skip }, () => {
  let server: RunningProcess;
  let host: string;
  before(async () => {
    const port = await freePort();
    host = `http://127.0.0.1:${port}`;
    server = await startProcess({
      name: "vaas-contract",
      command: python,
      args: [`${root}tests/servers/vaas-contract/app.py`, `127.0.0.1:${port}`, "user", "key"],
      ready: (output) => output().includes("ready"),
    });
  });
  after(() => server.stop());

  const hook = (environment: object = {}) =>
    vaasHook(VaasConfig.parse({ host, dc: "dc1", serviceAddress: "10.1.1.1" }), {
      VAAS_USERNAME: "user",
      VAAS_TOKEN: "key",
      ...environment,
    });

  interface Backend {
    address: string;
    port: number;
    weight: number;
    tags: string[];
    inherit_time_profile: boolean;
    director: string;
    dc: { symbol: string };
  }
  async function backends(port: number): Promise<Backend[]> {
    const answer = await fetch(`${host}/api/v0.1/backend/?username=user&api_key=key&port=${port}&limit=0`);
    return ((await answer.json()) as { objects: Backend[] }).objects;
  }
  function webTask(port: number, more: Record<string, string> = {}, fields: Partial<HookTask> = {}): HookTask {
    const ports = [{ number: 1 }, { number: port, labels: labels({ "frontend-sync:web": "" }).labels }];
    return hookTask({ ...labels({ director: "web", ...more }), discovery: { ports: { ports } } }, fields);
  }

  test("a healthy task becomes one backend with its weight and tags, and is deleted once", async () => {
    const supervisor = new TestSupervisor(hook());
    const task = webTask(31001, { canary: "1", "weight:7": "tag" });

    await supervisor.run("afterHealthy", task);
    const [backend, ...more] = await backends(31001);
    assert.deepEqual(more, []);
    assert.equal(backend?.address, "10.1.1.1");
    assert.equal(backend?.weight, 7);
    assert.equal(backend?.inherit_time_profile, true);
    assert.equal(backend?.dc.symbol, "dc1");

    await supervisor.run("beforeStop", { ...task, stop: KILLED });
    assert.deepEqual(await backends(31001), []);
    await supervisor.run("afterStop", { ...task, stop: ENDED });
    assert.deepEqual(supervisor.warnings, []);
    const deletes = server.output().match(/DELETE/g) ?? [];
    assert.ok(deletes.length <= 1);
  });

  test("the weight of the task's environment goes before the label's", async () => {
    const task = webTask(31002, { "weight:7": "tag", VAAS_INITIAL_WEIGHT: "3" }, { environment: { VAAS_INITIAL_WEIGHT: "0" } });
    const supervisor = new TestSupervisor(hook());

    await supervisor.run("afterHealthy", task);

    assert.equal((await backends(31002))[0]?.weight, 0);
    await supervisor.run("afterStop", { ...task, stop: ENDED });
    assert.deepEqual(await backends(31002), []);
  });

  for (const point of ["before", "during", "after"] as const) {
    test(`the supervisor dies ${point} the registration, then ${point} the end: one backend, then none`, async () => {
      const port = { before: 31010, during: 31011, after: 31012 }[point];
      const task = webTask(port);
      const first = new TestSupervisor(hook());
      if (point === "during") await first.dieDuring("afterHealthy", task, 25);
      if (point === "after") await first.runAndDie("afterHealthy", task);

      const second = new TestSupervisor(hook());
      await second.run("afterHealthy", task);
      assert.equal((await backends(port)).length, 1);
      const stopping = { ...task, stop: KILLED };
      if (point === "during") await second.dieDuring("beforeStop", stopping, 5);
      if (point === "after") await second.runAndDie("beforeStop", stopping);

      const third = new TestSupervisor(hook());
      if (point !== "during") third.states = second.states;
      await third.run("afterStop", stopping);
      assert.deepEqual(await backends(port), []);
      assert.deepEqual(third.warnings, []);
    });
  }

  test("what VaaS does not know fails the task, and says which label or setting", async () => {
    const run = (task: HookTask, environment: object = {}) => new TestSupervisor(hook(environment)).run("afterHealthy", task);

    await assert.rejects(run(webTask(31020, { director: "nope" })), /no director 'nope'/);
    await assert.rejects(run({ ...webTask(31020), executorEnvironment: { CLOUD_DC: "dc9" } }), /symbol 'dc9'/);
    await assert.rejects(run(webTask(31020, { VAAS_INITIAL_WEIGHT: "heavy" })), /VAAS_INITIAL_WEIGHT must be a whole number/);
    await assert.rejects(run(webTask(31020), { VAAS_TOKEN: "wrong" }), (error: Error) => {
      assert.match(error.message, /VaaS answered GET \/api\/v0\.1\/dc\/ with status 401/);
      assert.doesNotMatch(error.message, /wrong|api_key/);
      return true;
    });
  });
});

test("a VaaS that hangs ends in bounded time: a kill is not kept waiting", async () => {
  const server = createServer(() => {});
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const host = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const hook = vaasHook(VaasConfig.parse({ host, dc: "dc1", serviceAddress: "10.1.1.1" }), {});
  const task = hookTask({ ...labels({ director: "web" }), discovery: { ports: { ports: [{ number: 1 }] } } });
  try {
    await assert.rejects(new TestSupervisor(hook).run("afterHealthy", task, AbortSignal.timeout(300)));
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test("without the label nothing is asked of anybody", async () => {
  const hook = vaasHook(VaasConfig.parse({}), {});
  const task = hookTask();
  const supervisor = new TestSupervisor(hook);

  for (const stage of ["afterHealthy", "beforeStop", "afterStop"] as const) await supervisor.run(stage, { ...task, stop: ENDED });

  assert.equal(hook.describe(task), undefined);
  assert.deepEqual([supervisor.states, supervisor.warnings], [{}, []]);
});
