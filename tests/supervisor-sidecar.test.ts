/** Sidecar the whole way: a real agent's API, real workers, a real berthd, real containers; the real Sidecar, and one that fails. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { hostname } from "node:os";
import { after, afterEach, before, describe, test } from "node:test";
import { HostInfo, type SidecarView, TaskInspection } from "@berth/admin-api";
import type { LocalExecutor, ObservedStatus } from "@berth/mesos/local-agent";
import { type Dockerd, freePort, ScriptedWorker, sharedDockerd, skipWithout, startSidecar, waitFor } from "@berth/test-harness";
import { dockerTask } from "./docker-tasks.ts";
import { ALIVE, FakeSidecar, type Fault, UNHEALTHY } from "./fake-sidecar.ts";
import { TaskStage } from "./task-stage.ts";

const HOST = "sidecar-host";
/** Ends by itself with 7 when it is told to. */
const OBEDIENT = "trap 'exit 7' USR1; trap 'exit 0' TERM; while :; do sleep 0.1; done";

let docker: Dockerd;
let stage: TaskStage;
let fake: FakeSidecar;
const executors: LocalExecutor[] = [];

before(async () => {
  docker = await sharedDockerd();
  stage = await TaskStage.withoutSupervisor({
    DOCKER_HOST: docker.host,
    EXECUTOR_SIDECAR_BACKOFF: "0s",
    EXECUTOR_SIDECAR_POLL_INTERVAL: "100ms",
    EXECUTOR_HTTP_TIMEOUT: "1s",
    EXECUTOR_SIDECAR_RETRY_DELAY: "100ms",
  });
});

afterEach(async () => {
  for (const executor of executors.splice(0)) {
    executor.shutdown();
    await executor.exited;
  }
  await stage?.stopSupervisor();
  await fake?.stop();
});

after(async () => {
  await stage?.[Symbol.asyncDispose]();
  await docker?.stop();
});

async function start(url: string, environment: Record<string, string> = {}): Promise<void> {
  await stage.startSupervisor({ EXECUTOR_SIDECAR_URL: url, ...environment });
}

async function startWithFake(environment: Record<string, string> = {}): Promise<void> {
  fake = new FakeSidecar(HOST);
  await fake.start();
  writeFileSync(stage.logFile, "");
  await start(fake.url, environment);
}

interface Launched {
  executor: LocalExecutor;
  id: string;
  container: string;
  service: string;
}

/** A task with a real worker of its own, once its container runs. */
async function launch(
  command = OBEDIENT,
  { environment, ...more }: { environment?: Record<string, string>; docker?: object; [field: string]: unknown } = {},
): Promise<Launched> {
  const task = dockerTask(command, more);
  const id = task.task_id.value;
  const executor = stage.launch(task, { TASK_HOST: HOST, ...environment });
  executors.push(executor);
  await state({ executor, id }, "TASK_RUNNING");
  const container = await waitFor(async () => (await inspect(id)).id ?? undefined);
  return { executor, id, container, service: container.slice(0, 12) };
}

async function state(
  { executor, id }: Pick<Launched, "executor" | "id">,
  wanted: string,
  more: (update: ObservedStatus) => boolean = () => true,
): Promise<ObservedStatus> {
  return await waitFor(() => executor.updates.find((update) => update.task_id.value === id && update.state === wanted && more(update)), {
    deadline: 40_000,
    what: `${wanted} of ${id} (so far: ${executor.updates.map((update) => `${update.state} ${update.message ?? ""}`).join(", ") || "nothing"})`,
  });
}

async function inspect(id: string): Promise<TaskInspection> {
  return (await stage.supervisor.admin.ask(TaskInspection, "GET", `/v1/tasks/${id}`)).value;
}

async function inSidecar(id: string, fits: (view: SidecarView) => boolean): Promise<SidecarView> {
  return await waitFor(
    async () => {
      const view = (await inspect(id)).sidecar;
      if (view !== null && fits(view)) return view;
      throw new Error(`it is ${JSON.stringify(view)}`);
    },
    { deadline: 40_000, what: `Sidecar's part of ${id}` },
  );
}

async function endByItself({ container }: Launched): Promise<void> {
  await docker.api.call("POST", `/containers/${container}/kill?signal=USR1`);
}

function statesOf({ executor }: Launched): string[] {
  return executor.updates.map((update) => update.state);
}

describe("a Sidecar that fails", () => {
  const faults: Fault[] = [
    "500",
    "an error page",
    "garbage",
    "half a body",
    "half a state, whole as HTTP",
    "a redirect",
    "an endless body",
  ];
  test("ends no task and hides no exit, whatever it answers; its next state is heard", async () => {
    await startWithFake({ EXECUTOR_SIDECAR_MAX_FAILS: "1" });
    const lasting = await launch();
    fake.services[lasting.service] = ALIVE;
    await inSidecar(lasting.id, ({ status }) => status === "ALIVE");
    for (const fault of faults) {
      const leaving = await launch();
      fake.services[leaving.service] = ALIVE;
      await inSidecar(leaving.id, ({ status }) => status === "ALIVE");
      fake.fault = fault;
      // What cannot be read must not be believed either.
      fake.services[lasting.service] = UNHEALTHY;
      const { assumedHealthy, healthy } = await inSidecar(lasting.id, ({ status }) => status === null);
      assert.match(assumedHealthy ?? "", /^Sidecar cannot be asked: assumed healthy \(.+\)$/, fault);
      assert.equal(healthy, true);
      await waitFor(() => (fake.served.get(fault) ?? 0) >= 3, { what: `three answers of ${fault}` });

      await endByItself(leaving);

      assert.match((await state(leaving, "TASK_FAILED")).message ?? "", /^container exited with 7/);
      assert.equal(fake.fault, fault);
      fake.services[lasting.service] = ALIVE;
      fake.fault = "none";
      await inSidecar(lasting.id, ({ status }) => status === "ALIVE");
    }
    assert.deepEqual([...new Set(statesOf(lasting))], ["TASK_STARTING", "TASK_RUNNING"]);
    const told = stage.log().match(/Sidecar cannot be asked/g) ?? [];
    assert.equal(told.length, faults.length, "once for each time that it failed");
  });

  test("and says nothing at all: an exit is noticed while it is still being waited for", async () => {
    await startWithFake({ EXECUTOR_HTTP_TIMEOUT: "10m", EXECUTOR_SIDECAR_DRAINING_DURATION: "100ms" });
    const lasting = await launch();
    const leaving = await launch();
    const checked = await launch(OBEDIENT, {
      health_check: { type: "COMMAND", command: { shell: true, value: "test ! -e /tmp/ill" }, interval_seconds: 0.2, delay_seconds: 0 },
    });
    fake.fault = "nothing";
    await waitFor(() => fake.held > 0);

    await endByItself(leaving);
    await state(leaving, "TASK_FAILED", ({ message }) => /^container exited with 7/.test(message ?? ""));
    await state(checked, "TASK_RUNNING", ({ healthy }) => healthy === true);
    const killed = await launch();
    killed.executor.kill(killed.id);
    await state(killed, "TASK_KILLED");

    assert.equal(fake.held, 1, "the reader had given the request up");
    assert.deepEqual([...new Set(statesOf(lasting))], ["TASK_STARTING", "TASK_RUNNING"]);
  });

  test("is restarted: its tasks are assumed healthy meanwhile, and judged again after", async () => {
    await startWithFake({ EXECUTOR_SIDECAR_MAX_FAILS: "2" });
    const task = await launch();
    fake.services[task.service] = ALIVE;
    await inSidecar(task.id, ({ status }) => status === "ALIVE");
    await fake.stop();
    await inSidecar(task.id, ({ assumedHealthy }) => /ECONNREFUSED/.test(assumedHealthy ?? ""));
    delete fake.services[task.service];
    await fake.start();
    await inSidecar(task.id, ({ assumedHealthy }) => /does not know the service/.test(assumedHealthy ?? ""));
    assert.deepEqual([...new Set(statesOf(task))], ["TASK_STARTING", "TASK_RUNNING"]);

    fake.services[task.service] = UNHEALTHY;

    assert.match(
      (await state(task, "TASK_FAILED")).message ?? "",
      /^Sidecar says UNHEALTHY since 20.*\(2 of 2\); container exited with 0$/,
    );
  });

  test("with 10 MB of state delays neither launches, exits nor verdicts", async () => {
    await startWithFake({ EXECUTOR_HTTP_TIMEOUT: "20s" });
    fake.fault = "10 MB";
    const healthy = await launch();
    const ill = await launch();
    fake.services[healthy.service] = ALIVE;
    fake.services[ill.service] = UNHEALTHY;
    await inSidecar(healthy.id, ({ status }) => status === "ALIVE");
    const leaving = await launch();
    await endByItself(leaving);

    assert.match((await state(leaving, "TASK_FAILED")).message ?? "", /^container exited with 7/);
    assert.match((await state(ill, "TASK_FAILED")).message ?? "", /^Sidecar says UNHEALTHY since 20.*\(3 of 3\)/);
    assert.deepEqual([...new Set(statesOf(healthy))], ["TASK_STARTING", "TASK_RUNNING"]);
  });
});

describe("verdicts", () => {
  test("end a task without a drain; a task that stays out of Sidecar is not asked about", async () => {
    await startWithFake({ EXECUTOR_SIDECAR_DRAINING_DURATION: "10m" });
    const ill = await launch();
    const apart = await launch(OBEDIENT, { docker: { parameters: [{ key: "label", value: "SidecarDiscover=false" }] } });
    fake.services[ill.service] = ALIVE;
    fake.services[apart.service] = UNHEALTHY;
    await state(ill, "TASK_RUNNING", ({ healthy }) => healthy === true);
    fake.services[ill.service] = UNHEALTHY;
    await state(ill, "TASK_RUNNING", ({ healthy }) => healthy === false);

    const failed = await state(ill, "TASK_FAILED");

    assert.match(failed.message ?? "", /^Sidecar says UNHEALTHY since 20.*\(3 of 3\); container exited with 0/);
    assert.equal(failed.healthy, false);
    assert.equal((await inspect(apart.id)).sidecar, null);
    apart.executor.kill(apart.id);
    await state(apart, "TASK_KILLED");
    assert.deepEqual(fake.drained, []);
  });

  test("as sidecar-executor has them: one more failure, and the state by the exit code", async () => {
    await startWithFake({ EXECUTOR_SIDECAR_EXTRA_FAIL: "true", EXECUTOR_SIDECAR_UNHEALTHY_STATE: "exit-code" });
    const ill = await launch();
    fake.services[ill.service] = UNHEALTHY;

    assert.match((await state(ill, "TASK_FINISHED")).message ?? "", /^Sidecar says UNHEALTHY since .*\(4 of 4\); container exited with 0/);
  });

  test("counted by a supervisor that dies go on with the next", async () => {
    await startWithFake({ EXECUTOR_SIDECAR_MAX_FAILS: "1000000" });
    const ill = await launch();
    fake.services[ill.service] = UNHEALTHY;
    await inSidecar(ill.id, ({ failures }) => failures >= 3);
    fake.fault = "500";
    const { failures } = await inSidecar(ill.id, ({ status }) => status === null);
    await stage.supervisor.kill();

    await start(fake.url, { EXECUTOR_SIDECAR_MAX_FAILS: String(failures + 1) });
    await inSidecar(ill.id, (view) => view.failures === failures && /cannot be asked/.test(view.assumedHealthy ?? ""));
    fake.fault = "none";

    const failed = await state(ill, "TASK_FAILED");
    assert.match(failed.message ?? "", new RegExp(`\\(${failures + 1} of ${failures + 1}\\)`));
  });

  test("come neither sooner nor later when the host's clock is set", async () => {
    const offset = `${stage.folder.path}/clock-offset`;
    const clock = `${stage.folder.path}/clock.mjs`;
    writeFileSync(offset, "0");
    // Date.now of the real daemon, moved: the clock of the machine is not a test's to set.
    writeFileSync(
      clock,
      `import { readFileSync } from "node:fs";
      const real = Date.now; let by = 0;
      setInterval(() => { by = Number(readFileSync(${JSON.stringify(offset)}, "utf8")) || 0; }, 20).unref();
      Date.now = () => real() + by;`,
    );
    await startWithFake({
      EXECUTOR_SIDECAR_MAX_FAILS: "1",
      EXECUTOR_SIDECAR_DRAINING_DURATION: "10m",
      NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ""} --import ${clock}`,
    });
    const young = await launch(OBEDIENT, { environment: { EXECUTOR_SIDECAR_BACKOFF: "30m" } });
    const draining = await launch();
    const watched = await launch();
    for (const { service } of [draining, watched]) fake.services[service] = ALIVE;
    fake.services[young.service] = UNHEALTHY;
    await inSidecar(draining.id, ({ status }) => status === "ALIVE");
    draining.executor.kill(draining.id);
    await waitFor(() => fake.drained.includes(draining.service));
    for (const hours of [1, -1, 24]) {
      writeFileSync(offset, String(hours * 3_600_000));
      const leaving = await launch();
      await endByItself(leaving);
      await state(leaving, "TASK_FAILED", ({ message }) => /^container exited with 7/.test(message ?? ""));
      const { since } = await inSidecar(watched.id, ({ status }) => status === "ALIVE");
      fake.services[watched.service] = 4;
      await inSidecar(watched.id, (view) => view.status === "DRAINING" && view.since !== since);
      fake.services[watched.service] = ALIVE;
    }
    assert.match((await inspect(young.id)).sidecar?.assumedHealthy ?? "", /not checked yet/);
    await endByItself(draining);
    await state(draining, "TASK_KILLED", ({ message }) => /container exited with 7/.test(message ?? ""));
    // A supervisor that comes back reckons by the kernel's clock too.
    await stage.supervisor.kill();
    await start(fake.url, {
      EXECUTOR_SIDECAR_MAX_FAILS: "1",
      EXECUTOR_SIDECAR_DRAINING_DURATION: "10m",
      NODE_OPTIONS: `--import ${clock}`,
    });
    await inSidecar(watched.id, ({ status }) => status === "ALIVE");
    assert.match((await inspect(young.id)).sidecar?.assumedHealthy ?? "", /not checked yet/);

    for (const each of [young, watched]) assert.deepEqual([...new Set(statesOf(each))], ["TASK_STARTING", "TASK_RUNNING"]);
  });
});

describe("a drain", () => {
  test("is asked for until it is accepted, also in the backoff; a second KILL with less time and the container's end cut it short", async () => {
    await startWithFake({ EXECUTOR_SIDECAR_BACKOFF: "10m", EXECUTOR_SIDECAR_DRAINING_DURATION: "10m" });
    const answers = [500, 503, 202, 202];
    fake.drains = () => answers.shift() ?? 404;
    const task = await launch();
    task.executor.kill(task.id, { gracePeriodMs: 60_000 });
    await waitFor(() => fake.drained.length === 3);
    assert.equal(statesOf(task).includes("TASK_KILLED"), false);
    task.executor.kill(task.id, { gracePeriodMs: 5_000 });
    await state(task, "TASK_KILLED");

    const ending = await launch();
    await stage.supervisor.admin.call("POST", `/v1/tasks/${ending.id}/kill`, {});
    await waitFor(() => fake.drained.at(-1) === ending.service);
    await endByItself(ending);
    assert.match((await state(ending, "TASK_KILLED")).message ?? "", /^stopped by the operator; container exited with 7/);
  });

  test("is waited for no longer than its time although Sidecar is away, and not at all where none ever was", async () => {
    await startWithFake({ EXECUTOR_SIDECAR_DRAINING_DURATION: "1s" });
    const task = await launch();
    fake.services[task.service] = ALIVE;
    await inSidecar(task.id, ({ status }) => status === "ALIVE");
    fake.drains = () => 500;
    task.executor.kill(task.id);
    await state(task, "TASK_KILLED");
    assert.ok(fake.drained.length > 1);
    await stage.stopSupervisor();
    await fake.stop();

    await start(fake.url, { EXECUTOR_SIDECAR_DRAINING_DURATION: "10m" });
    const lonely = await launch();
    lonely.executor.kill(lonely.id);
    await state(lonely, "TASK_KILLED");
  });

  test("that a supervisor's death interrupts is not asked for again, and waited out", async () => {
    await startWithFake({ EXECUTOR_SIDECAR_DRAINING_DURATION: "6s" });
    const task = await launch();
    fake.services[task.service] = ALIVE;
    await inSidecar(task.id, ({ status }) => status === "ALIVE");
    task.executor.kill(task.id);
    await waitFor(() => stage.log().includes("Sidecar has accepted the drain"));
    await stage.supervisor.kill();

    await start(fake.url, { EXECUTOR_SIDECAR_DRAINING_DURATION: "6s" });
    await waitFor(async () => (await inspect(task.id)).stop !== undefined);
    assert.equal(statesOf(task).includes("TASK_KILLED"), false);
    await state(task, "TASK_KILLED");

    assert.equal(fake.drained.length, 1);
  });

  test("of fifty tasks is one wait: all are asked for side by side", async () => {
    await startWithFake({ EXECUTOR_SIDECAR_DRAINING_DURATION: "10m", EXECUTOR_HTTP_TIMEOUT: "2m" });
    const worker = new ScriptedWorker({ socket: stage.socket, sandbox: stage.folder.path, environment: { TASK_HOST: HOST } });
    await worker.connect();
    const tasks = Array.from({ length: 50 }, () => dockerTask(OBEDIENT));
    const ids = tasks.map((task) => task.task_id.value);
    for (const task of tasks) worker.launch(task);
    await waitFor(() => ids.every((id) => worker.statesOf(id).includes("TASK_RUNNING")), { deadline: 120_000, what: "fifty tasks" });
    // Nobody is answered before all have asked.
    const all = Promise.withResolvers<number>();
    fake.drains = () => {
      if (fake.drained.length >= ids.length) all.resolve(404);
      return all.promise;
    };
    for (const id of ids) worker.kill(id);

    await waitFor(() => ids.every((id) => worker.statesOf(id).includes("TASK_KILLED")), { deadline: 120_000, what: "fifty ends" });
    assert.equal(new Set(fake.drained).size, ids.length);
    await worker.disconnect();
  });
});

describe("the real Sidecar", { skip: skipWithout("sidecar") }, () => {
  test("finds a task by its labels, drains one, and has an unhealthy one ended", { timeout: 180_000 }, async () => {
    await using sidecar = await startSidecar({ dockerHost: docker.host });
    // To Sidecar every service is unhealthy until its first check is through: that is what the backoff is for, here the count.
    const settings = {
      EXECUTOR_SIDECAR_MAX_FAILS: "40",
      EXECUTOR_SIDECAR_POLL_INTERVAL: "250ms",
      EXECUTOR_SIDECAR_DRAINING_DURATION: "10m",
    };
    await start(`${sidecar.address}/state.json`, settings);
    const serve =
      "mkdir /w; echo well > /w/index.html; httpd -p 80 -h /w; trap 'rm /w/index.html' USR1; trap 'exit 0' TERM; while :; do sleep 0.1; done";
    const service = async (name: string): Promise<Launched> => {
      const label = (text: string): object => ({ key: "label", value: text });
      return await launch(serve, {
        environment: { TASK_HOST: hostname() },
        docker: {
          network: "BRIDGE",
          port_mappings: [{ host_port: await freePort(), container_port: 80 }],
          parameters: [
            label(`ServiceName=${name}`),
            label("ServicePort_80=9999"),
            label("HealthCheck=HttpGet"),
            label("HealthCheckArgs=http://{{ host }}:{{ tcp 9999 }}/"),
          ],
        },
      });
    };
    const [ill, draining] = await Promise.all([service("ill"), service("draining")]);
    for (const task of [ill, draining]) await state(task, "TASK_RUNNING", ({ healthy }) => healthy === true);
    assert.equal((await inSidecar(ill.id, ({ status }) => status === "ALIVE")).assumedHealthy, null);

    const info = await stage.supervisor.admin.ask(HostInfo, "GET", "/v1/info");
    const { sidecar: reader } = JSON.parse(info.text) as { sidecar: object };
    assert.deepEqual({ ...reader, since: 0, lastState: 0, requests: 0, parsed: 0, bytes: 0 }, { url: `${sidecar.address}/state.json`, mode: "watch", reachable: true, since: 0, lastState: 0, requests: 0, parsed: 0, bytes: 0, tasks: 2, draining: 0 }); // biome-ignore format: one answer

    draining.executor.kill(draining.id, { gracePeriodMs: 60_000 });
    await waitFor(async () => statusIn(await (await fetch(`${sidecar.address}/state.json`)).json(), draining.service) === 4);
    assert.equal(statesOf(draining).includes("TASK_KILLED"), false);
    draining.executor.kill(draining.id, { gracePeriodMs: 5_000 });
    await state(draining, "TASK_KILLED");

    await endByItself(ill);
    const failed = await state(ill, "TASK_FAILED");
    assert.match(failed.message ?? "", /^Sidecar says UNHEALTHY since 20.*\(40 of 40\); container exited with 0/);
    assert.equal(failed.healthy, false);
  });
});

function statusIn(state: unknown, service: string): number | undefined {
  const { Servers } = state as { Servers: Record<string, { Services: Record<string, { Status: number }> }> };
  return Object.values(Servers).find(({ Services }) => Services[service] !== undefined)?.Services[service]?.Status;
}

describe("seeds", () => {
  test("come over TLS with the agent's credential, and that goes nowhere else", async () => {
    const files = {
      ca: `${stage.folder.path}/ca.pem`,
      key: `${stage.folder.path}/ca.key`,
      credential: `${stage.folder.path}/credential.json`,
    };
    execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=agent", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", files.key, "-out", files.ca], { stdio: "ignore" }); // biome-ignore format: a command line
    const secret = `s3cr3t-${randomBytes(8).toString("hex")}`;
    writeFileSync(files.credential, JSON.stringify({ principal: "berth", secret }), { mode: 0o600 });
    const asked: string[] = [];
    const server = createServer({ cert: readFileSync(files.ca), key: readFileSync(files.key) }, (request, response) => {
      asked.push(`${request.url}`);
      if (request.headers.authorization !== `Basic ${Buffer.from(`berth:${secret}`).toString("base64")}`)
        return void response.writeHead(401).end();
      return void response.end(
        request.url === "/state"
          ? JSON.stringify({ id: "a", frameworks: [], master_hostname: "127.0.0.1" })
          : JSON.stringify({
              slaves: [
                { id: "1", hostname: "one.example" },
                { id: "2", hostname: "two.example" },
              ],
              recovered_slaves: [],
            }),
      );
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = server.address() as AddressInfo;
      const settings = {
        EXECUTOR_MESOS_CREDENTIAL: files.credential,
        EXECUTOR_MESOS_CA: files.ca,
        EXECUTOR_MESOS_MASTER_PORT: String(port),
      };
      await startWithFake({ ...settings, EXECUTOR_MESOS_AGENT: `127.0.0.1:${port}` });
      const tasks = await Promise.all([1, 2, 3].map(() => launch(OBEDIENT, { environment: { EXECUTOR_SEED_SIDECAR: "true" } })));
      for (const { id } of tasks) assert.equal((await inspect(id)).environment?.SIDECAR_SEEDS, "one.example,two.example");
      assert.deepEqual(asked, ["/state", "/slaves"]);
      const { Config } = await docker.api.call<{ Config: { Env: string[] } }>("GET", `/containers/${tasks[0]?.container}/json`);
      assert.ok(Config.Env.includes("SIDECAR_SEEDS=one.example,two.example"));

      await stage.stopSupervisor();
      await start(fake.url, settings);
      const bare = await launch(OBEDIENT, { environment: { EXECUTOR_SEED_SIDECAR: "true" } });
      assert.equal((await inspect(bare.id)).environment?.SIDECAR_SEEDS, undefined);
      assert.match(stage.log(), /mesosCredential needs mesosAgent/);
      assert.equal(asked.length, 2);
      assert.doesNotMatch(stage.log(), new RegExp(`${secret}|${Buffer.from(`berth:${secret}`).toString("base64")}`));
    } finally {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  });
});
