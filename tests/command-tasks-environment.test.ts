/** What a command task is started with: its command, environment, user, limits and cgroup. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { after, before, describe, test } from "node:test";
import type { LocalExecutor, TaskInfoInput } from "@berth/mesos/local-agent";
import { skipWithout, waitFor } from "@berth/test-harness";
import { commandStage, commandTask, newMark, processesWith, shellTask } from "./command-tasks-stage.ts";
import { state, stdoutOf, type TaskStage, WORKER } from "./task-stage.ts";
import { startVaultFixture } from "./vault/vault-fixture.ts";

const AS_ROOT: { skip?: string } = process.getuid?.() === 0 ? {} : { skip: "needs root" };

let stage: TaskStage;
before(async () => {
  stage = await commandStage();
});
after(async () => {
  await stage?.[Symbol.asyncDispose]();
});

/** Runs a task to its end; returns what it wrote to stdout. */
async function outputOf(
  task: TaskInfoInput,
  environment: Record<string, string> = {},
): Promise<{ output: string; executor: LocalExecutor }> {
  const executor = stage.launch(task, environment);
  await state(executor, task, "TASK_FINISHED");
  await executor.exited;
  return { output: stdoutOf(executor), executor };
}

function variables(values: Record<string, string>): object {
  return { variables: Object.entries(values).map(([name, value]) => ({ name, value })) };
}

describe("the environment", () => {
  test("is the task's and Mesos's own variables, exactly", async () => {
    const task = commandTask({
      shell: false,
      value: "/usr/bin/env",
      arguments: ["env"],
      environment: variables({ GREETING: "hi there", EMPTY: "", LINES: "a=b" }),
    });
    const { output, executor } = await outputOf(task, { EXECUTOR_DEBUG: "true", VAULT_TOKEN: "s.secret", OPERATORS: "of the executor" });

    const seen = Object.fromEntries(
      output
        .trimEnd()
        .split("\n")
        .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
    );
    const { BERTH_TASK: mark = "", ...rest } = seen;
    assert.deepEqual(rest, {
      PATH: process.env.PATH,
      MESOS_SANDBOX: executor.sandbox,
      MESOS_TASK_ID: task.task_id.value,
      MESOS_EXECUTOR_ID: executor.executorId,
      MESOS_FRAMEWORK_ID: executor.frameworkId,
      OPERATORS: "of the executor",
      GREETING: "hi there",
      EMPTY: "",
      LINES: "a=b",
    });
    assert.deepEqual((JSON.parse(mark) as unknown[]).slice(0, 5), [
      executor.frameworkId,
      executor.executorId,
      executor.containerId,
      task.task_id.value,
      executor.pid,
    ]);
  });

  test("has nothing that opens Vault, the agent or the registries, unless the task asks for it by name", async () => {
    const secrets = {
      EXECUTOR_KILL_TASK_TIMEOUT: "7",
      ALLEGRO_EXECUTOR_SENTRY_DSN: "dsn",
      ALLEGRO_EXECUTOR_SERVICELOG_BUFFER_SIZE: "100",
      VAULT_PASSWORD: "p",
      VAAS_TOKEN: "v",
      VAAS_USERNAME: "u",
      CONSUL_TOKEN: "c",
      CONSUL_HTTP_TOKEN: "c",
      MESOS_EXECUTOR_AUTHENTICATION_TOKEN: "jwt",
      MESOS_DOMAIN_SOCKET: "/x",
      BERTH_SOCKET: stage.supervisor.socket,
      APP_OWN: "kept",
    };
    const base = commandTask({ shell: false, value: "/usr/bin/env", arguments: ["env"], environment: variables({ VAULT_ADDR: "mine" }) });
    const task = { ...base, executor: { executor_id: { value: "x" }, command: { value: "true", environment: variables(secrets) } } };
    const { output } = await outputOf(task);

    assert.deepEqual(
      output
        .split("\n")
        .filter((line) => /^(EXECUTOR|ALLEGRO|VAULT|VAAS|CONSUL|MESOS_EXECUTOR_AUTH|MESOS_DOMAIN|BERTH_SOCKET|APP)/.test(line)),
      ["APP_OWN=kept", "VAULT_ADDR=mine"],
    );
  });

  test("has vault:// values in it, and nothing else has them", { skip: skipWithout("vaultdev") }, async () => {
    await using vault = await startVaultFixture();
    await using own = await commandStage({ ...vault.environment(), EXECUTOR_DEBUG: "true" });
    const mark = newMark();
    const task = commandTask({
      value: `printenv DATABASE SECOND > seen; exec sleep ${mark}`,
      environment: variables({ DATABASE: "vault://secret/app/one", SECOND: "vault://kv1/app/db?key=user" }),
    });
    const executor = own.launch(task);
    await state(executor, task, "TASK_RUNNING");
    const seen = await waitFor(() => readFileSync(`${executor.sandbox}/seen`, "utf8"));

    assert.equal(seen, "kv2-value-of-one\nkv1-user-of-db\n");
    const commandLines = processesWith(mark).map((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8"));
    const worker = ["cmdline", "environ"].map((file) => readFileSync(`/proc/${executor.pid}/${file}`, "latin1"));
    const inspected = JSON.stringify(await own.supervisor.admin.call("GET", "/v1/tasks"));
    for (const text of [...commandLines, ...worker, inspected, own.log(), readFileSync(`${executor.sandbox}/stderr`, "utf8")]) {
      assert.doesNotMatch(text, /kv2-value-of-one|kv1-user-of-db/);
    }
    executor.kill(task.task_id.value, { gracePeriodMs: 0 });
    await executor.exited;
  });

  test("has vault:// values that a restarted supervisor tells no more than the first", { skip: skipWithout("vaultdev") }, async () => {
    await using vault = await startVaultFixture();
    await using own = await commandStage(vault.environment());
    const speaking = (go: string): TaskInfoInput =>
      commandTask({
        value: `while [ ! -e ${go} ]; do sleep 0.1; done; echo "it is $DATABASE"; echo $$ > ${go}.pid; exit 3`,
        environment: variables({ DATABASE: "vault://secret/app/one" }),
      });
    const [later, meanwhile] = [`${own.folder.path}/${newMark()}`, `${own.folder.path}/${newMark()}`];
    const [one, other] = [speaking(later), speaking(meanwhile)];
    const [executor, otherExecutor] = [own.launch(one), own.launch(other)];
    await Promise.all([state(executor, one, "TASK_RUNNING"), state(otherExecutor, other, "TASK_RUNNING")]);

    await own.supervisor.kill();
    writeFileSync(meanwhile, "");
    await waitFor(() => !existsSync(`/proc/${Number(readFileSync(`${meanwhile}.pid`, "utf8"))}`), { what: "the end of the one" });
    await own.startSupervisor();

    // Nobody knows any more what the one that is over was given.
    assert.match((await state(otherExecutor, other, "TASK_FAILED")).message ?? "", /^process exited with 3$/);
    const seen = async (): Promise<boolean> => {
      const tasks = await own.supervisor.admin.call<Array<{ taskId: string; observed?: { state: string } }>>("GET", "/v1/tasks");
      return JSON.stringify(tasks.find(({ taskId }) => taskId === one.task_id.value) ?? "").includes('"running"');
    };
    await waitFor(seen, { what: "a supervisor that has seen the task" });
    writeFileSync(later, "");
    assert.match((await state(executor, one, "TASK_FAILED")).message ?? "", /it is \[secret from vault:\/\/secret\/app\/one\]/);
    assert.doesNotMatch(own.log(), /kv2-value-of-one/);
    await Promise.all([executor.exited, otherExecutor.exited]);
  });

  test("a vault:// value that is not there fails the launch and names its path", { skip: skipWithout("vaultdev") }, async () => {
    await using vault = await startVaultFixture();
    await using own = await commandStage(vault.environment());
    const task = commandTask({ value: "true", environment: variables({ DATABASE: "vault://secret/app/nothing" }) });
    const executor = own.launch(task);

    assert.match((await state(executor, task, "TASK_FAILED")).message ?? "", /DATABASE.*secret\/app\/nothing/);
    await executor.exited;
  });
});

describe("the command", () => {
  test("shell: /bin/sh -c, in the sandbox, in a session of its own, stdin empty", async () => {
    const { output, executor } = await outputOf(
      shellTask("pwd; cut -d' ' -f5,6 /proc/$$/stat; echo $$; readlink /proc/$$/fd/0; echo \"a  b\" | wc -c"),
    );

    const [directory, groups, pid, stdin, count] = output.split("\n");
    assert.equal(directory, executor.sandbox);
    assert.equal(groups, `${pid} ${pid}`);
    assert.equal(stdin, "/dev/null");
    assert.equal(count?.trim(), "5");
  });

  test("argv: arguments as they are, the first of them the program's own name", async () => {
    const task = commandTask({ shell: false, value: "printf", arguments: ["printf", "<%s>", "a b", "", "$HOME", "'x'"] });

    assert.equal((await outputOf(task)).output, "<a b><><$HOME><'x'>");
  });

  test("Marathon's: the executor's command without the prefix that starts the worker", async () => {
    const worker = WORKER;
    const value = `chmod ug+rx '${worker}' && exec '${worker}' echo "from the app: $APP_NAME" && pwd`;
    const task = {
      task_id: { value: newMark() },
      executor: {
        executor_id: { value: "marathon" },
        command: { value, environment: variables({ APP_NAME: "shop", EXECUTOR_DEBUG: "1" }) },
      },
    };
    const { output, executor } = await outputOf(task);

    assert.equal(output, `from the app: shop\n${executor.sandbox}\n`);
  });

  test("a task with the executor's own start command and no prefix is invalid, not run twice", async () => {
    const task = {
      task_id: { value: newMark() },
      executor: { executor_id: { value: "e" }, command: { value: WORKER } },
    };
    const executor = stage.launch(task);

    assert.match((await state(executor, task, "TASK_ERROR")).message ?? "", /neither a Docker container .* nor a command of its own/);
    await executor.exited;
  });
});

describe("what no process can be given", () => {
  test("a NUL in a value fails the launch, names the variable and does not tell the value", async () => {
    const task = commandTask({ value: "true", environment: variables({ PASSWORD: "half\0other-half" }) });
    const executor = stage.launch(task);

    const failed = await state(executor, task, "TASK_FAILED");

    assert.match(failed.message ?? "", /value of its variable PASSWORD holds a NUL/);
    await executor.exited;
    for (const text of [failed.message, stage.log(), readFileSync(`${executor.sandbox}/stderr`, "utf8")]) {
      assert.doesNotMatch(text ?? "", /half/);
    }
  });

  test("a variable that is too long for the kernel: FAILED, and says what is too long", async () => {
    const task = commandTask({ value: "true", environment: variables({ LONG: "x".repeat(200_000) }) });
    const executor = stage.launch(task);

    assert.match((await state(executor, task, "TASK_FAILED")).message ?? "", /command line and environment are too long/);
    await executor.exited;
  });

  test("a task that was refused needs no Docker engine to be cleaned up: its executor leaves at once", async () => {
    const task: TaskInfoInput = { task_id: { value: newMark() } };
    const executor = stage.launch(task);

    await state(executor, task, "TASK_ERROR");

    await executor.exited;
    // The worker would say so if it had left by its own patience.
    assert.doesNotMatch(readFileSync(`${executor.sandbox}/stderr`, "utf8"), /did not say that it is finished/);
  });
});

describe("an executor with a pid namespace of its own", AS_ROOT, () => {
  /** As the agent's isolator namespaces/pid starts it. */
  function isolated(task: TaskInfoInput): LocalExecutor {
    return stage.launch(task, {}, `exec unshare --pid --fork --kill-child --mount-proc ${WORKER} #`);
  }

  test("its task's checks are made with that task's own process, not with the host's of the same number", async () => {
    const mark = newMark();
    const command = { value: 'echo "$MESOS_TASK_ID $(readlink /proc/self/ns/pid)" > checked' };
    const health = { type: "COMMAND", delay_seconds: 0, interval_seconds: 0.2, command };
    const task = shellTask(`readlink /proc/self/ns/pid > own; exec sleep ${mark}`, { health_check: health });
    const executor = isolated(task);

    await waitFor(() => executor.updates.find((update) => update.healthy === true), { what: "a check that succeeds" });

    const own = readFileSync(`${executor.sandbox}/own`, "utf8");
    assert.equal(readFileSync(`${executor.sandbox}/checked`, "utf8"), `${task.task_id.value} ${own}`);
    assert.notEqual(own.trim(), readlinkSync("/proc/self/ns/pid"));
    executor.kill(task.task_id.value, { gracePeriodMs: 200 });
    await state(executor, task, "TASK_KILLED");
    await waitFor(() => processesWith(mark).length === 0, { what: "the end of the tree" });
    await executor.exited;
  });

  test("nothing of its task's environment is heeded before a check is that task's user", async () => {
    const { folder, traces } = trap();
    writeFileSync(`${folder}/nsenter`, `#!/bin/sh\nid -u > ${traces}/nsenter\n`, { mode: 0o755 });
    const environment = variables({
      PATH: `${folder}:${process.env.PATH}`,
      LD_DEBUG: "files",
      LD_DEBUG_OUTPUT: `${traces}/ld`,
      OWN: "x y",
    });
    const health = { type: "COMMAND", delay_seconds: 0, interval_seconds: 0.2, command: { value: `echo "$LD_DEBUG $OWN" > ${traces}/ok` } };
    const task = commandTask({ value: "exec sleep 300", user: "nobody", environment }, { health_check: health });
    const executor = isolated(task);

    await waitFor(() => executor.updates.find((update) => update.healthy === true), { what: "a check that succeeds" });

    assert.deepEqual(ownersOf(traces), [NOBODY]);
    assert.equal(readFileSync(`${traces}/ok`, "utf8"), "files x y\n");
    executor.kill(task.task_id.value, { gracePeriodMs: 200 });
    await state(executor, task, "TASK_KILLED");
    await executor.exited;
  });
});

const NOBODY = AS_ROOT.skip === undefined ? Number(execFileSync("id", ["-u", "nobody"])) : 0;

/** Folders that every user may enter, for what is run or written with the wrong rights. */
function trap(): { folder: string; traces: string } {
  for (let path = stage.folder.path; path !== "/" && path !== "/tmp"; path = dirname(path)) chmodSync(path, 0o711);
  const folder = `${stage.folder.path}/${newMark()}`;
  mkdirSync(`${folder}/traces`, { recursive: true });
  chmodSync(folder, 0o755);
  chmodSync(`${folder}/traces`, 0o777);
  return { folder, traces: `${folder}/traces` };
}

function ownersOf(folder: string): number[] {
  return [...new Set(readdirSync(folder).map((name) => statSync(`${folder}/${name}`).uid))];
}

describe("the user", AS_ROOT, () => {
  test("is set with its group and all its groups, and the tree dies with the worker all the same", async () => {
    const account = "nobody";
    const idsOf = (flag: string): string[] => execFileSync("id", [flag, account], { encoding: "utf8" }).trim().split(" ");
    const mark = newMark();
    const task = commandTask({ value: `id > /dev/stdout; sleep ${mark} & sleep ${mark}`, user: account });
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");
    await waitFor(() => processesWith(mark).length === 2, { what: "the tree" });

    const status = readFileSync(`/proc/${processesWith(mark)[0]}/status`, "utf8");
    const field = (name: string): string[] => (new RegExp(`^${name}:(.*)$`, "m").exec(status)?.[1] ?? "").trim().split(/\s+/);
    assert.deepEqual(field("Uid"), Array(4).fill(idsOf("-u")[0]));
    assert.deepEqual(field("Gid"), Array(4).fill(idsOf("-g")[0]));
    assert.deepEqual(field("Groups").sort(), idsOf("-G").sort());

    process.kill(executor.pid as number, "SIGKILL");
    await waitFor(() => processesWith(mark).length === 0, { what: "the end of what the worker left" });
  });

  test("is the only one with whose rights anything of the task's environment is heeded", async () => {
    const { traces } = trap();
    const environment = variables({ LD_DEBUG: "files", LD_DEBUG_OUTPUT: `${traces}/ld`, OWN: "x y" });
    const task = commandTask({ value: `echo "$LD_DEBUG $OWN" > ${traces}/ok`, user: "nobody", environment });
    const executor = stage.launch(task);

    await state(executor, task, "TASK_FINISHED");

    assert.deepEqual(ownersOf(traces), [NOBODY]);
    assert.equal(readFileSync(`${traces}/ok`, "utf8"), "files x y\n");
    await executor.exited;
  });

  /** A worker that is not root's, as an agent starts it for the framework's user. */
  function executorOf(uid: number, gid: number): LocalExecutor {
    // A test run has a folder of its own for everything temporary, which only root may enter.
    for (let path = dirname(stage.folder.path); path !== "/" && path !== "/tmp"; path = dirname(path)) chmodSync(path, 0o711);
    for (let path = stage.folder.path; path.startsWith(stage.folder.path); path = `${path}/agent`) {
      chmodSync(path, 0o755);
      if (path.endsWith("/agent")) break;
    }
    chmodSync(stage.supervisor.socket, 0o666);
    const become = `setpriv --reuid ${uid} --regid ${gid} --clear-groups ${WORKER}`;
    const executor = stage.executor({}, `chown ${uid}:${gid} . stdout stderr; exec ${become}`);
    return executor;
  }

  test("of a worker that the agent already started as that user needs no change", async () => {
    const uid = Number(execFileSync("id", ["-u", "nobody"], { encoding: "utf8" }));
    const gid = Number(execFileSync("id", ["-g", "nobody"], { encoding: "utf8" }));
    const executor = executorOf(uid, gid);
    const task = commandTask({ value: "id -u; id -u > mine", user: "nobody" });
    executor.launch(task);

    await state(executor, task, "TASK_FINISHED");
    assert.equal(stdoutOf(executor).trim(), String(uid));
    await executor.exited;
  });

  test("that a worker without root cannot become is a clear failure", async () => {
    const executor = executorOf(65_534, 65_534);
    const task = commandTask({ value: "id", user: "daemon" });
    executor.launch(task);

    assert.match((await state(executor, task, "TASK_FAILED")).message ?? "", /changing the user/);
    await executor.exited;
  });
});

describe("limits", () => {
  test("rlimits are the task's", async () => {
    const rlimits = [
      { type: "RLMT_NOFILE", soft: 100, hard: 200 },
      { type: "RLMT_CORE", soft: 0, hard: 0 },
    ];
    const { output } = await outputOf(
      shellTask("grep -E '^Max (open files|core file size)' /proc/self/limits", { container: { type: "MESOS", rlimit_info: { rlimits } } }),
    );

    assert.match(output, /^Max core file size +0 +0 /m);
    assert.match(output, /^Max open files +100 +200 /m);
  });
});

/** Own cgroups below those that these tests run in, as an agent makes them for an executor. */
function makeCgroups(memoryBytes: number): { enter: string; paths: string[]; remove(): Promise<void> } | undefined {
  const name = `berth-test-${newMark()}`;
  const paths: string[] = [];
  const own = (controller: string): string =>
    new RegExp(`^\\d+:[^:]*\\b${controller}\\b[^:]*:(.*)$`, "m").exec(readFileSync("/proc/self/cgroup", "utf8"))?.[1] ?? "";
  for (const controller of ["memory", "freezer"]) {
    const path = `/sys/fs/cgroup/${controller}${own(controller).replace(/\/$/, "")}/${name}`;
    try {
      mkdirSync(path);
      paths.push(path);
      if (controller === "memory") writeFileSync(`${path}/memory.limit_in_bytes`, String(memoryBytes));
    } catch {
      for (const made of paths) rmdirSync(made);
      return undefined;
    }
  }
  const remove = async (): Promise<void> => {
    for (const path of paths) {
      const gone = (): boolean => {
        for (const child of readdirSync(path, { withFileTypes: true })) if (child.isDirectory()) rmdirSync(`${path}/${child.name}`);
        rmdirSync(path);
        return true;
      };
      await waitFor(gone, { what: `an empty ${path}` });
    }
  };
  return { enter: paths.map((path) => `echo $$ > ${path}/cgroup.procs`).join("; "), paths, remove };
}

describe("the executor's cgroup (v1)", AS_ROOT, () => {
  // The shell stays small, its child does not: what the kernel kills is a descendant.
  const greedy = "perl -e '$x = \"y\" x 400_000_000; sleep 60'";

  test("out of memory is told apart, and other tasks in other cgroups do not notice", async (t) => {
    const cgroups = makeCgroups(200 * 1024 * 1024);
    if (cgroups === undefined) return t.skip("no cgroup of our own can be made here");
    t.after(() => cgroups.remove());
    const task = shellTask(`exec ${greedy}`);
    const executor = stage.launch(task, {}, cgroups.enter);

    const failed = await state(executor, task, "TASK_FAILED");

    assert.equal(failed.reason, "REASON_CONTAINER_LIMITATION_MEMORY");
    assert.match(failed.message ?? "", /^process exited with 137: OOM killed/);
    await executor.exited;
  });

  test("a SIGKILL by somebody else is not taken for it", async (t) => {
    const cgroups = makeCgroups(200 * 1024 * 1024);
    if (cgroups === undefined) return t.skip("no cgroup of our own can be made here");
    t.after(() => cgroups.remove());
    const task = shellTask("kill -KILL $$");
    const executor = stage.launch(task, {}, cgroups.enter);

    const failed = await state(executor, task, "TASK_FAILED");

    assert.equal(failed.reason, "REASON_COMMAND_EXECUTOR_FAILED");
    assert.match(failed.message ?? "", /killed by SIGKILL, which Berth did not send/);
    await executor.exited;
  });

  test("finds what left its session, its parent and its environment behind; and nothing stays in it", async (t) => {
    const cgroups = makeCgroups(1024 * 1024 * 1024);
    if (cgroups === undefined) return t.skip("no cgroup of our own can be made here");
    t.after(() => cgroups.remove());
    const mark = newMark();
    // Nothing but the cgroup knows this one: the root is over when it is searched for, and so is the root's session.
    const task = shellTask(`env -i setsid sh -c 'sleep ${mark} & exec setsid sleep ${mark}' & sleep 0.4; exit 3`);
    const executor = stage.launch(task, {}, cgroups.enter);
    await state(executor, task, "TASK_RUNNING");
    await waitFor(() => processesWith(mark).length === 2, { what: "the tree", interval: 5 });
    const [memory = ""] = cgroups.paths;
    const below = readdirSync(memory, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
    assert.deepEqual(
      below.map((name) => name.split(".")[0]),
      [`berth-${task.task_id.value}`],
    );
    assert.deepEqual(readFileSync(`${memory}/cgroup.procs`, "utf8").trim().split("\n"), [String(executor.pid)]);

    assert.match((await state(executor, task, "TASK_FAILED")).message ?? "", /^process exited with 3/);

    assert.deepEqual(processesWith(mark), []);
    await executor.exited;
  });
});
