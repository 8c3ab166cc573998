import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { type ConsulServer, freePort, skipWithout, startConsul, waitFor } from "@berth/test-harness";
import { ConsulConfig } from "../config.ts";
import type { HookTask } from "../lifecycle.ts";
import { ENDED, hookTask, KILLED, labels, TestSupervisor } from "../test-kit.ts";
import { consulHook } from "./consul-hook.ts";
import { plannedServices } from "./services.ts";

interface Service {
  ID: string;
  Service: string;
  Tags: string[];
  Port: number;
  Address: string;
}

const discovery = (...ports: Array<{ number: number; name?: string; labels?: object }>) => ({ discovery: { ports: { ports } } });

describe("with a Consul agent", { skip: skipWithout("consul") }, () => {
  let consul: ConsulServer;
  before(async () => {
    consul = await startConsul();
  });
  after(() => consul.stop());

  async function services(task: HookTask): Promise<Service[]> {
    const all = (await (await fetch(`${consul.address}/v1/agent/services`)).json()) as Record<string, Service>;
    return Object.values(all).filter(({ ID }) => ID.startsWith(`${task.identity.taskId}_`));
  }
  const hook = (config: object = {}) => consulHook(ConsulConfig.parse({ address: consul.address, ...config }), {});
  const webTask = (more: Partial<HookTask> = {}) =>
    hookTask({ ...labels({ consul: "web", blue: "tag" }), ...discovery({ number: 31001 }) }, more);

  test("a healthy task is registered once, however often it is said, and taken back before its end", async () => {
    const supervisor = new TestSupervisor(hook());
    const task = webTask({ executorEnvironment: { CLOUD_PUBLIC_IP: "10.9.8.7" } });

    await supervisor.run("afterHealthy", task);
    await supervisor.run("afterHealthy", task);
    const [service, ...more] = await services(task);
    assert.deepEqual(more, []);
    assert.equal(service?.Service, "web");
    assert.equal(service?.Port, 31001);
    assert.equal(service?.Address, "10.9.8.7");
    assert.deepEqual(service?.Tags, ["blue", "marathon", `marathon-task:${task.identity.taskId}`]);

    await supervisor.run("beforeStop", { ...task, stop: KILLED });
    assert.deepEqual(await services(task), []);
    await supervisor.run("afterStop", { ...task, stop: ENDED });
    assert.deepEqual(supervisor.warnings, []);
  });

  test("the task's check is Consul's too: on the check's own port, as the outside sees it", async () => {
    const task = hookTask({
      ...labels({ consul: "web" }),
      ...discovery({ number: 31001 }),
      container: { type: "DOCKER", docker: { image: "x", network: "BRIDGE", port_mappings: [{ host_port: 31002, container_port: 8080 }] } },
      health_check: {
        type: "HTTP",
        interval_seconds: 3600,
        timeout_seconds: 2,
        http: { scheme: "https", port: 8080, path: "/health?a=b" },
      },
    });
    await new TestSupervisor(hook({ initialStatus: "warning", deregisterCriticalAfter: "1h", serviceAddress: "10.9.8.7" })).run(
      "afterHealthy",
      task,
    );

    const checks = (await (await fetch(`${consul.address}/v1/agent/checks`)).json()) as Record<
      string,
      { ServiceID: string; Status: string }
    >;
    const check = Object.values(checks).find(({ ServiceID }) => ServiceID === `${task.identity.taskId}_web_31001`);
    assert.equal(check?.Status, "warning");
    const described = (await (await fetch(`${consul.address}/v1/health/service/web`)).json()) as Array<{ Checks: Array<{ Type: string }> }>;
    assert.ok(described.some(({ Checks }) => Checks.some(({ Type }) => Type === "http")));
    await new TestSupervisor(hook()).run("afterStop", { ...task, stop: ENDED });
  });

  for (const point of ["before", "during", "after"] as const) {
    test(`the supervisor dies ${point} the registration: nothing is forgotten, and nothing is there twice`, async () => {
      const task = webTask();
      const first = new TestSupervisor(hook());
      if (point === "during") await first.dieDuring("afterHealthy", task, 1);
      if (point === "after") await first.runAndDie("afterHealthy", task);

      const second = new TestSupervisor(hook());
      await second.run("afterHealthy", task);
      assert.equal((await services(task)).length, 1);
      await second.run("beforeStop", { ...task, stop: KILLED });
      assert.equal((await services(task)).length, 0);
    });

    test(`the supervisor dies ${point} the deregistration: the next one finishes it`, async () => {
      const task = { ...webTask(), stop: KILLED };
      const first = new TestSupervisor(hook());
      await first.run("afterHealthy", task);
      if (point === "during") await first.dieDuring("beforeStop", task, 1);
      if (point === "after") await first.runAndDie("beforeStop", task);

      const second = new TestSupervisor(hook());
      second.states = first.states;
      await second.run("beforeStop", task);
      await second.run("afterStop", { ...task, stop: ENDED });
      assert.deepEqual(await services(task), []);
      assert.deepEqual(second.warnings, []);
    });
  }

  test("the reaper needs nothing but the labels", async () => {
    const task = webTask();
    await new TestSupervisor(hook()).run("afterHealthy", task);

    await new TestSupervisor(hook()).run("afterStop", { ...task, executorEnvironment: {}, stop: ENDED });

    assert.deepEqual(await services(task), []);
  });

  test("the wait after deregistration: the service is gone, the task runs on, a kill that cannot wait cuts it short", async () => {
    const task = { ...webTask({ executorEnvironment: { KEEP_AFTER_DEREGISTRATION: "1h" } }), stop: KILLED };
    const supervisor = new TestSupervisor(hook());
    await supervisor.run("afterHealthy", task);
    const abort = new AbortController();

    let over = false;
    const stopping = supervisor.run("beforeStop", task, abort.signal).then(() => {
      over = true;
    });
    await waitFor(async () => (await services(task)).length === 0);
    assert.equal(over, false);
    abort.abort(new Error("the agent shuts the executor down"));
    await stopping;
    assert.deepEqual(supervisor.states.consul, { registered: false }, "what was done before the wait counts");
  });

  test("a supervisor that comes back after the wait does not begin it anew", async () => {
    const task = webTask({ executorEnvironment: { KEEP_AFTER_DEREGISTRATION: "1h" } });
    const supervisor = new TestSupervisor(hook());
    await supervisor.run("afterHealthy", task);

    await supervisor.run("beforeStop", { ...task, stop: { ...KILLED, since: Date.now() - 2 * 3_600_000 } });

    assert.deepEqual(await services(task), []);
  });

  test("a task that ended by itself waits for nothing", async () => {
    const task = webTask({ executorEnvironment: { KEEP_AFTER_DEREGISTRATION: "1h" } });
    const supervisor = new TestSupervisor(hook());
    await supervisor.run("afterHealthy", task);

    await supervisor.run("beforeStop", { ...task, stop: ENDED });

    assert.deepEqual(await services(task), []);
  });

  test("tasks without a health check are registered too, unless the section says otherwise", async () => {
    const task = webTask();
    await new TestSupervisor(hook({ withoutHealthCheck: false })).run("afterHealthy", task);
    assert.equal((await services(task)).length, 0);
  });
});

test("Consul is down at register: the hook waits for it, and a kill ends that at once", async () => {
  const port = await freePort();
  const hook = consulHook(ConsulConfig.parse({ address: `http://127.0.0.1:${port}` }), {});
  const task = hookTask({ ...labels({ consul: "web" }), ...discovery({ number: 1 }) });
  const abort = new AbortController();
  const registering = new TestSupervisor(hook).run("afterHealthy", task, abort.signal);
  setTimeout(() => abort.abort(new Error("killed")), 400);

  await assert.rejects(registering, { message: "killed" });
});

test("Consul comes back while a task waits to be registered; a refusal is final and names Consul", async () => {
  const answers = [500, 503, 200, 403];
  const seen: Array<{ url: string | undefined; token: unknown }> = [];
  const server = createServer((request, response) => {
    seen.push({ url: request.url, token: request.headers["x-consul-token"] });
    response.writeHead(answers.shift() ?? 200).end("Permission denied");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const hook = consulHook(ConsulConfig.parse({ address }), { CONSUL_TOKEN: "of-the-daemon" });
  const task = hookTask({ ...labels({ consul: "web" }), ...discovery({ number: 1 }) });
  try {
    await new TestSupervisor(hook).run("afterHealthy", task);
    assert.equal(seen.length, 3);
    assert.equal(seen[0]?.token, "of-the-daemon");

    await assert.rejects(new TestSupervisor(hook).run("afterHealthy", task), (error: Error) => {
      assert.match(error.message, /Consul answered \/v1\/agent\/service\/register with status 403: Permission denied/);
      assert.doesNotMatch(error.message, /of-the-daemon/);
      return true;
    });
    assert.equal(seen.length, 4);

    // An executor that names an address of its own does not get the daemon's token sent there.
    await new TestSupervisor(hook).run("afterHealthy", { ...task, executorEnvironment: { CONSUL_HTTP_ADDR: address } });
    assert.equal(seen.at(-1)?.token, undefined);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});

test("services, ids and tags by the labels", () => {
  const task = hookTask({
    ...labels({ consul: "", common: "tag", other: "x", "weight:5": "tag" }),
    ...discovery(
      {
        number: 31001,
        name: "http",
        labels: labels({ consul: "web, admin", public: "tag", "only-{port:debug}": "tag:admin", "{port:nope}": "tag:admin:x" }).labels,
      },
      { number: 31002, name: "debug" },
    ),
  }).task;
  const id = task.task_id.value;

  assert.deepEqual(plannedServices(task, "g"), [
    { id: `${id}_web_31001`, name: "web", port: 31001, tags: ["public", "common", "weight:5", "g", `marathon-task:${id}`] },
    {
      id: `${id}_admin_31001`,
      name: "admin",
      port: 31001,
      tags: ["public", "only-31002", "{port:nope}", "common", "weight:5", "g", `marathon-task:${id}`],
    },
  ]);
  const named = (taskId: string) =>
    plannedServices({ ...task, task_id: { value: taskId }, discovery: discovery({ number: 1 }).discovery as never }, "").map(
      ({ name }) => name,
    );
  assert.deepEqual(named("com.ex_app.uuid"), ["com.ex.app"]);
  assert.deepEqual(named("/group/app"), ["group-app"]);
  assert.deepEqual(plannedServices(hookTask().task, "g"), []);
});
