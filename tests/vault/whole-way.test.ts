/** Secrets on their whole way: Mesos's agent, real workers, real supervisors, a real Vault and real containers. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { PlanView, VaultView } from "@berth/admin-api";
import { LocalSupervisor } from "@berth/cli/local-supervisor";
import { program } from "@berth/cli/programs";
import { LocalAgent, type LocalExecutor, type TaskInfoInput } from "@berth/mesos/local-agent";
import { type ForbiddenValue, type Leak, leaksInFiles, leaksInText } from "@berth/redact/proof";
import {
  BUSYBOX_IMAGE,
  type Dockerd,
  ScriptedWorker,
  sharedDockerd,
  skipWithout,
  startRedis,
  type TempDir,
  tempDir,
  waitFor,
} from "@berth/test-harness";
import { Redis } from "ioredis";
import { PASSWORD, startVaultFixture, type VaultFixture } from "./vault-fixture.ts";

/** Fifty are what is asked for; the usual run is content with less. */
const TASKS = Number(process.env.BERTH_TEST_VAULT_TASKS ?? 20);
const PATHS = ["one", "two", "three"] as const;
const WAITING = "trap 'exit 0' TERM; while :; do sleep 0.2; done";

let docker: Dockerd;
let folder: TempDir;
let vault: VaultFixture;
const values = new Map<string, string>();

function newTask(command = WAITING, environment: Record<string, string> = {}): TaskInfoInput {
  const variables = PATHS.map((path) => ({ name: `SECRET_${path.toUpperCase()}`, value: `vault://secret/app/${path}` }));
  const more = Object.entries(environment).map(([name, value]) => ({ name, value }));
  return {
    task_id: { value: `v-${randomBytes(5).toString("hex")}` },
    container: { type: "DOCKER", docker: { image: BUSYBOX_IMAGE, network: "NONE" } },
    command: { shell: true, value: command, environment: { variables: [...variables, ...more] } },
  };
}

function startExecutor(agent: LocalAgent, socket: string): LocalExecutor {
  return agent.startExecutor({
    executorId: `x-${randomBytes(5).toString("hex")}`,
    command: `exec ${program("berth-worker")}`,
    environment: { PATH: process.env.PATH ?? "", BERTH_SOCKET: socket },
  });
}

async function startSupervisor(name: string, environment: Record<string, string> = {}): Promise<LocalSupervisor> {
  const directory = join(folder.path, name);
  return await LocalSupervisor.start({
    directory,
    environment: {
      ...vault.environment(),
      DOCKER_HOST: docker.host,
      EXECUTOR_VAULT_SECRET_CACHE: "60s",
      VAULT_TOKEN_FILE: join(directory, "token"),
      BERTH_LOG_LEVEL: "debug",
      EXECUTOR_DEBUG: "true",
      ...environment,
    },
    logFile: join(directory, "berthd.log"),
  });
}

async function running(executor: LocalExecutor, task: TaskInfoInput): Promise<void> {
  const id = task.task_id.value;
  const told = (): string => executor.updates.map(({ state, message }) => `${state} ${message ?? ""}`).join(", ");
  await waitFor(() => executor.updates.some((update) => update.task_id.value === id && update.state === "TASK_RUNNING"), {
    deadline: 120_000,
    what: `TASK_RUNNING of ${id}`,
  }).catch((error: Error) => {
    throw new Error(`${error.message} (${told()})`);
  });
}

async function ended(runs: ReadonlyArray<{ executor: LocalExecutor; task: TaskInfoInput }>): Promise<void> {
  for (const { executor, task } of runs) executor.kill(task.task_id.value);
  for (const { executor } of runs) await executor.exited;
}

describe("secrets on their whole way", { skip: skipWithout("vaultdev") }, () => {
  before(async () => {
    docker = await sharedDockerd();
    folder = await tempDir("w");
    vault = await startVaultFixture();
    for (const path of PATHS) {
      const value = `${path}-${randomBytes(12).toString("hex")}`;
      values.set(path, value);
      await vault.server.call("POST", `secret/data/app/${path}`, { data: { value } });
    }
  });

  after(async () => {
    await vault?.[Symbol.asyncDispose]();
    await docker?.stop();
    await folder?.remove();
  });

  function forbidden(): ForbiddenValue[] {
    return [...PATHS.map((path) => ({ label: path, value: values.get(path) ?? "" })), { label: "VAULT_PASSWORD", value: PASSWORD }];
  }

  test(`${TASKS} tasks at once: one login, at most one read of each path, and no value anywhere but in the containers`, async () => {
    await vault.forget();
    const supervisor = await startSupervisor("s");
    const agent = await LocalAgent.start({ workDirectory: join(folder.path, "agent"), checkpoint: true });
    const runs = Array.from({ length: TASKS }, () => ({ executor: startExecutor(agent, supervisor.socket), task: newTask() }));
    const failing = { executor: startExecutor(agent, supervisor.socket), task: newTask('echo "my secret is $SECRET_ONE"; exit 3') };
    try {
      for (const { executor, task } of [...runs, failing]) executor.launch(task);
      for (const { executor, task } of runs) await running(executor, task);

      assert.equal(await vault.logins(), 1);
      for (const path of PATHS) assert.ok((await vault.reads(`secret/data/app/${path}`)) <= 1, `reads of ${path}`);

      const failed = await waitFor(() => failing.executor.updates.find(({ state }) => state === "TASK_FAILED"), { deadline: 60_000 });
      assert.match(failed.message ?? "", /my secret is \[secret from vault:\/\/secret\/app\/one\]/);
      await assertOnlyInContainer(runs[0]?.task as TaskInfoInput);
      const leaks = [
        ...(await leaksOfAdmin(supervisor, runs[0]?.task as TaskInfoInput)),
        ...leaksInText(JSON.stringify(failed), "the update", forbidden()),
      ];
      assert.deepEqual(leaks, []);
    } finally {
      await ended(runs);
      await failing.executor.exited;
      await agent.stop();
      await supervisor.stop();
    }
    // The sandbox of the task that prints its secret is its own affair.
    const directories = [join(folder.path, "s"), ...runs.map(({ executor }) => executor.sandbox)];
    assert.deepEqual(await leaksInFiles(directories, forbidden()), []);
  });

  /** The container has all three, and nothing else of what dockerd tells of it. */
  async function assertOnlyInContainer(task: TaskInfoInput): Promise<void> {
    const filters = encodeURIComponent(JSON.stringify({ label: [`berth.task-id=${task.task_id.value}`] }));
    const [found] = await docker.api.call<Array<{ Id: string }>>("GET", `/containers/json?all=1&filters=${filters}`);
    const container = await docker.api.call<{ Config: { Env?: string[] } }>("GET", `/containers/${found?.Id}/json`);
    for (const path of PATHS) assert.ok(container.Config.Env?.includes(`SECRET_${path.toUpperCase()}=${values.get(path)}`));
    delete container.Config.Env;
    assert.deepEqual(leaksInText(JSON.stringify(container), "docker inspect less its environment", forbidden()), []);
  }

  async function leaksOfAdmin(supervisor: LocalSupervisor, task: TaskInfoInput): Promise<Leak[]> {
    const leaks: Leak[] = [];
    const id = encodeURIComponent(task.task_id.value);
    for (const path of ["/v1/tasks", `/v1/tasks/${id}`, "/v1/events", "/v1/config", "/v1/vault", "/v1/info", "/metrics"]) {
      leaks.push(...leaksInText(await supervisor.admin.text(path), path, forbidden()));
    }
    assert.match(await supervisor.admin.text(`/v1/tasks/${id}`), /vault:\/\/secret\/app\/one/);
    assert.equal((await supervisor.admin.ask(VaultView, "GET", "/v1/vault")).value.state, "open");
    const plan = await supervisor.admin.ask(PlanView, "POST", "/v1/plan", { taskInfo: task });
    assert.equal(plan.value.image, BUSYBOX_IMAGE);
    return [...leaks, ...leaksInText(plan.text, "berth plan", forbidden())];
  }

  test("five supervisors that share Redis log in once in all, and Redis holds no secret", async () => {
    await using redis = await startRedis();
    const keyFile = join(folder.path, "fleet.key");
    await writeFile(keyFile, `k:${randomBytes(32).toString("base64")}`, { mode: 0o600 });
    await vault.forget();
    const agent = await LocalAgent.start({ workDirectory: join(folder.path, "agent-5"), checkpoint: true });
    const supervisors = await Promise.all(
      Array.from({ length: 5 }, (_, index) => startSupervisor(`f${index}`, { REDIS_URL: redis.url, EXECUTOR_FLEET_KEY_FILE: keyFile })),
    );
    const runs = supervisors.flatMap(({ socket }) => [0, 1].map(() => ({ executor: startExecutor(agent, socket), task: newTask() })));
    try {
      for (const { executor, task } of runs) executor.launch(task);
      for (const { executor, task } of runs) await running(executor, task);

      assert.equal(await vault.logins(), 1);
      const client = new Redis(redis.url);
      const dump: string[] = [];
      for (const key of await client.keys("*")) dump.push(key, (await client.dumpBuffer(key))?.toString("latin1") ?? "");
      client.disconnect();
      assert.ok(dump.length > 0);
      const token = (await readFile(join(folder.path, "f0", "token"), "utf8")).trim();
      assert.ok(token.length > 8);
      assert.deepEqual(leaksInText(dump.join("\n"), "Redis", [...forbidden(), { label: "the token", value: token }]), []);
    } finally {
      await ended(runs);
      await agent.stop();
      await Promise.all(supervisors.map((supervisor) => supervisor.stop()));
    }
    assert.deepEqual(
      await leaksInFiles(
        supervisors.map((_, index) => join(folder.path, `f${index}`)),
        forbidden(),
      ),
      [],
    );
  });

  test("no checkpoint holds a value, and after kill -9 of the supervisor its successor hides them still", async () => {
    let supervisor = await startSupervisor("k");
    const worker = new ScriptedWorker({ socket: supervisor.socket, sandbox: join(folder.path, "k") });
    const task = newTask('while [ ! -e /tmp/go ]; do sleep 0.1; done; echo "it was $SECRET_TWO"; exit 4');
    try {
      await worker.connect();
      worker.launch(task);
      await worker.update(task.task_id.value, "TASK_RUNNING", 60_000);
      assert.deepEqual(leaksInText(JSON.stringify([...worker.records.values()]), "the checkpoint", forbidden()), []);
      assert.deepEqual(leaksInText(JSON.stringify(worker.received), "what the worker was sent", forbidden()), []);

      await supervisor.kill();
      supervisor = await startSupervisor("k");
      await worker.connect();
      await waitFor(async () => (await supervisor.admin.text(`/v1/tasks/${task.task_id.value}`)).includes('"step":"the task runs"'));
      await touchGo(task);

      const failed = await worker.update(task.task_id.value, "TASK_FAILED", 60_000);
      assert.match(failed.message ?? "", /it was \[secret from vault:\/\/secret\/app\/two\]/);
      assert.deepEqual(await leaksInFiles([join(folder.path, "k", "berthd.log")], forbidden()), []);
    } finally {
      await worker.disconnect();
      await supervisor.stop();
    }
  });

  async function touchGo(task: TaskInfoInput): Promise<void> {
    const filters = encodeURIComponent(JSON.stringify({ label: [`berth.task-id=${task.task_id.value}`] }));
    const [found] = await docker.api.call<Array<{ Id: string }>>("GET", `/containers/json?filters=${filters}`);
    const { Id } = await docker.api.call<{ Id: string }>("POST", `/containers/${found?.Id}/exec`, { Cmd: ["touch", "/tmp/go"] });
    await docker.api.call("POST", `/exec/${Id}/start`, { Detach: true });
  }

  test("a launch that waits for Vault says so in ps and events", async () => {
    const supervisor = await startSupervisor("q");
    const worker = new ScriptedWorker({ socket: supervisor.socket, sandbox: join(folder.path, "q") });
    const task = newTask();
    try {
      await vault.server.call("PUT", "sys/seal");
      await worker.connect();
      worker.launch(task);

      const [shown] = await waitFor(async () => {
        const tasks = await supervisor.admin.call<Array<{ step: string }>>("GET", "/v1/tasks");
        return tasks.filter(({ step }) => /^resolve-secrets: .*sealed/.test(step)).length > 0 && tasks;
      });
      assert.match(shown?.step ?? "", /sealed/);
      assert.match(await supervisor.admin.text("/v1/events"), /"what":"waiting","detail":"[^"]*sealed/);
      worker.kill(task.task_id.value);
      await worker.update(task.task_id.value, "TASK_KILLED");
    } finally {
      await worker.disconnect();
      await supervisor.stop();
    }
  });
});
