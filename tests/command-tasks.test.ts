/** Command tasks with real processes: what a kill must find, and what must not outlive what. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, copyFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { ScriptedWorker, startWorkerStandIn, waitFor } from "@berth/test-harness";
import { allGone, commandStage, commandTask, newMark, processesWith, shellTask } from "./command-tasks-stage.ts";
import { state, statesOf, stdoutOf, type TaskStage } from "./task-stage.ts";

let stage: TaskStage;
before(async () => {
  stage = await commandStage();
});
after(async () => {
  await stage?.[Symbol.asyncDispose]();
});

describe("a kill", () => {
  /** Trees that are hard to kill; each has `count` processes with the mark once it stands. */
  const trees: Array<[what: string, script: (mark: string) => string, count: number]> = [
    ["one that ignores SIGTERM", (m) => `trap '' TERM; sleep ${m} & sleep ${m} & wait; wait; sleep ${m}`, 2],
    ["a daemon: forked twice, in its own session, its parents gone", (m) => `(setsid sh -c 'setsid sleep ${m} &' &) ; sleep ${m}`, 2],
    ["one that stopped itself", (m) => `sleep ${m} & kill -STOP $$; wait`, 1],
    ["one with stopped children", (m) => `sleep ${m} & sleep 0.2; kill -STOP $!; sleep ${m} & wait; wait`, 2],
    ["a background job in a process group of its own", (m) => `set -m; sleep ${m} & set +m; (sleep ${m} &) ; sleep ${m}`, 3],
    ["one that daemonized and cleared its environment", (m) => `(setsid env -i sleep ${m} &); sleep ${m}`, 2],
    [
      "a daemon without our mark, of which only the session is left",
      (m) => `(env -i sh -c 'sleep ${m} & sleep ${m}' &) ; exec sleep ${m}`,
      3,
    ],
  ];
  for (const [what, script, count] of trees) {
    test(`ends ${what}`, async () => {
      const mark = newMark();
      const task = shellTask(script(mark));
      const executor = stage.launch(task);
      await state(executor, task, "TASK_RUNNING");
      await waitFor(() => processesWith(mark).length >= count, { what: "the tree" });

      executor.kill(task.task_id.value, { gracePeriodMs: 400 });
      await state(executor, task, "TASK_KILLED");

      assert.deepEqual(processesWith(mark), []);
      assert.equal((await executor.exited).code, 0);
    });
  }

  test("ends a tree that forks while it is killed", async () => {
    const mark = newMark();
    // Each copy makes the next one and ends: no list of it is ever up to date.
    const script = `trap '' TERM HUP; f() { trap '' TERM HUP; sleep ${mark} & sleep 0.02; f & exit; }; f & f & sleep ${mark}`;
    const task = shellTask(script);
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");
    await waitFor(() => processesWith(mark).length > 10, { what: "the tree" });

    executor.kill(task.task_id.value, { gracePeriodMs: 200 });
    await state(executor, task, "TASK_KILLED");

    assert.deepEqual(processesWith(mark), []);
    await executor.exited;
  });

  test("ends 1,000 descendants, in trees of three levels", async () => {
    const mark = newMark();
    const leaf = `i=0; while [ $i -lt 9 ]; do sleep ${mark} & i=$((i+1)); done; wait`;
    const script = `trap '' TERM; i=0; while [ $i -lt 100 ]; do sh -c "trap '' TERM; ${leaf}" & i=$((i+1)); done; wait; wait`;
    const task = shellTask(script.replaceAll('"', "'").replace("'trap '' TERM; i=0", "'i=0"));
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");
    await waitFor(() => processesWith(mark).length >= 900, { what: "900 leaves below 100 shells", deadline: 60_000 });

    executor.kill(task.task_id.value, { gracePeriodMs: 300 });
    await state(executor, task, "TASK_KILLED", 60_000);

    assert.deepEqual(processesWith(mark), []);
    await executor.exited;
  });

  test("does not wait for the grace period when all is gone before it", async () => {
    const mark = newMark();
    const task = shellTask(`sleep ${mark} & (setsid sleep ${mark} &); wait`);
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");
    await waitFor(() => processesWith(mark).length >= 2);

    executor.kill(task.task_id.value, { gracePeriodMs: 600_000 });

    const killed = await state(executor, task, "TASK_KILLED");
    assert.match(
      killed.message ?? "",
      /killed on request of the framework; process exited with 143: ended by SIGTERM within the grace period/,
    );
    await executor.exited;
  });

  test("of a task whose own kill policy gives it no time is a SIGKILL", async () => {
    const mark = newMark();
    const policy = { kill_policy: { grace_period: { nanoseconds: 0 } } };
    const task = shellTask(`trap 'touch heard' TERM; sleep ${mark} & wait; wait; exec sleep ${mark}`, policy);
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");
    await waitFor(() => processesWith(mark).length === 1, { what: "the tree" });

    executor.kill(task.task_id.value);

    assert.match((await state(executor, task, "TASK_KILLED")).message ?? "", /killed by SIGKILL without a grace period/);
    assert.equal(existsSync(`${executor.sandbox}/heard`), false);
    assert.deepEqual(processesWith(mark), []);
    await executor.exited;
  });

  test("that is asked for again with less time ends sooner, descendants and spared ones too", async () => {
    const mark = newMark();
    const deaf = `sh -c "trap '' TERM; sleep ${mark}; sleep ${mark}"`;
    const policy = { kill_policy: { grace_period: { nanoseconds: 600e9 } } };
    const task = shellTask(`trap '' TERM; (${deaf} &); ${deaf}`, policy);
    const executor = stage.launch(task, { EXECUTOR_SIGTERM_EXCLUDE_PROCESSES: "sleep" });
    await state(executor, task, "TASK_RUNNING");
    await waitFor(() => processesWith(mark).length === 2, { what: "the tree" });

    executor.kill(task.task_id.value);
    await state(executor, task, "TASK_KILLING");
    executor.kill(task.task_id.value, { gracePeriodMs: 300 });

    assert.match((await state(executor, task, "TASK_KILLED")).message ?? "", /killed by SIGKILL after the 300ms grace period/);
    assert.deepEqual(processesWith(mark), []);
    await executor.exited;
  });

  test("waits for a descendant that uses the grace period after the root is over", async () => {
    const task = shellTask(`(trap 'sleep 0.7; echo cleaned up; exit' TERM; while :; do sleep 0.1; done) & trap 'exit 0' TERM; wait`);
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");
    await new Promise((resolve) => setTimeout(resolve, 300));

    executor.kill(task.task_id.value, { gracePeriodMs: 20_000 });
    await state(executor, task, "TASK_KILLED");

    assert.match(stdoutOf(executor), /^cleaned up$/m);
    await executor.exited;
  });

  test("of a root whose main thread is over while another works on", async (t) => {
    // Such a root is a zombie to /proc, and yet it runs. Perl has no threads everywhere; C is there where this repository is built.
    const compiler = ["/usr/bin/cc", "/usr/bin/gcc"].find((path) => existsSync(path));
    if (compiler === undefined) return t.skip("no C compiler");
    const mark = newMark();
    const source = `${stage.folder.path}/zombie-leader.c`;
    writeFileSync(
      source,
      `#include <pthread.h>\n#include <signal.h>\n#include <unistd.h>
       static void *work(void *none) { for (;;) pause(); return none; }
       int main(void) { pthread_t t; signal(SIGTERM, SIG_IGN); pthread_create(&t, 0, work, 0); pthread_exit(0); }\n`,
    );
    execFileSync(compiler, ["-pthread", "-o", `${stage.folder.path}/zombie-leader`, source]);
    const task = shellTask(`sleep ${mark} & exec ${stage.folder.path}/zombie-leader`);
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");
    const [root] = await waitFor(() => executor.pid !== undefined && childrenOf(executor.pid).filter((pid) => stateOf(pid) === "Z"), {
      what: "a root that looks like a zombie",
    });

    executor.kill(task.task_id.value, { gracePeriodMs: 300 });
    await state(executor, task, "TASK_KILLED");

    assert.equal(existsSync(`/proc/${root}`), false);
    assert.deepEqual(processesWith(mark), []);
    await executor.exited;
  });

  test("touches no process of others: not the worker's own, not another task's, not a stranger", async () => {
    const mark = newMark();
    const stranger = spawn("sleep", [mark], { stdio: "ignore" });
    const neighbour = shellTask(`sleep ${mark}`);
    const other = stage.launch(neighbour);
    await state(other, neighbour, "TASK_RUNNING");
    const task = shellTask(`(setsid sleep ${mark} &); sleep ${mark}`);
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");
    await waitFor(() => processesWith(mark).length === 4, { what: "all four" });

    executor.kill(task.task_id.value, { gracePeriodMs: 100 });
    await state(executor, task, "TASK_KILLED");

    assert.equal(processesWith(mark).length, 2);
    assert.deepEqual(statesOf(other, neighbour), ["TASK_STARTING", "TASK_RUNNING"]);
    await ended(stranger);
    other.kill(neighbour.task_id.value, { gracePeriodMs: 0 });
    await state(other, neighbour, "TASK_KILLED");
    await allGone(mark, "the end of all");
  });

  test("spares the processes that SIGTERM excludes, by the name of a program or a long one's whole name, until SIGKILL", async () => {
    const mark = newMark();
    const folder = stage.folder.path;
    // comm holds 15 characters: the whole name is in the command line alone.
    for (const name of ["keeper", "keeper-with-a-long-name"]) copyFileSync("/bin/sleep", `${folder}/${name}`);
    for (const name of ["keeper", "keeper-with-a-long-name"]) chmodSync(`${folder}/${name}`, 0o755);
    const task = shellTask(`${folder}/keeper ${mark} & ${folder}/keeper-with-a-long-name ${mark} & sleep ${mark} & wait`);
    const executor = stage.launch(task, { ALLEGRO_EXECUTOR_SIGTERM_EXCLUDE_PROCESSES: "KEEPER,keeper-with-a-long-name,nothing" });
    await state(executor, task, "TASK_RUNNING");
    await waitFor(() => processesWith(mark).length === 3, { what: "all three" });

    executor.kill(task.task_id.value, { gracePeriodMs: 3000 });

    await waitFor(() => processesWith(mark).length === 2, { what: "the end of the one that is not spared" });
    assert.equal(statesOf(executor, task).includes("TASK_KILLED"), false);
    await state(executor, task, "TASK_KILLED");
    assert.deepEqual(processesWith(mark), []);
    await executor.exited;
  });
});

describe("a root that ends by itself", () => {
  test("takes what it left in the background along, also what cleared its environment", async () => {
    const mark = newMark();
    const task = shellTask(`sleep ${mark} & (setsid sleep ${mark} &); env -i sleep ${mark} & sleep 0.3; exit 5`);
    const executor = stage.launch(task);

    const failed = await state(executor, task, "TASK_FAILED");

    assert.equal(failed.message, "process exited with 5");
    assert.equal(failed.reason, "REASON_COMMAND_EXECUTOR_FAILED");
    assert.deepEqual(processesWith(mark), []);
    await executor.exited;
  });

  test("by a signal that nobody asked for: FAILED, with its name", async () => {
    const task = shellTask("kill -SEGV $$");
    const executor = stage.launch(task);

    const failed = await state(executor, task, "TASK_FAILED");

    assert.match(failed.message ?? "", /exited with 139: killed by SIGSEGV, which Berth did not send/);
    await executor.exited;
  });

  test("exit 0 is FINISHED, and FAILED for those who rely on it", async () => {
    for (const [environment, wanted] of [
      [{}, "TASK_FINISHED"],
      [{ EXECUTOR_COMMAND_SUCCESS: "failed" }, "TASK_FAILED"],
    ] as const) {
      await using own = await commandStage(environment);
      const task = shellTask("exit 0");
      const executor = own.launch(task);
      assert.equal((await state(executor, task, wanted)).message, "process exited with 0");
      await executor.exited;
    }
  });
});

describe("the worker's death by SIGKILL", () => {
  const left: Array<[what: string, script: (mark: string) => string, count: number]> = [
    ["its child", (m) => `exec sleep ${m}`, 1],
    ["a background grandchild, and one in a session of its own", (m) => `sleep ${m} & (setsid sleep ${m} &); sleep ${m}`, 3],
    ["a grandchild that cleared its environment, in the task's session", (m) => `env -i sleep ${m} & sleep ${m}`, 2],
    ["what is stopped and ignores signals", (m) => `trap '' TERM HUP; sleep ${m} & sleep 0.2; kill -STOP $!; sleep ${m}`, 2],
  ];
  for (const [what, script, count] of left) {
    test(`ends ${what}`, async () => {
      const mark = newMark();
      const task = shellTask(script(mark));
      const executor = stage.launch(task);
      await state(executor, task, "TASK_RUNNING");
      await waitFor(() => processesWith(mark).length >= count, { what: "the tree" });

      process.kill(executor.pid as number, "SIGKILL");

      await allGone(mark, "the end of what the worker left");
      assert.equal((await state(executor, task, "TASK_FAILED")).reason, "REASON_EXECUTOR_TERMINATED");
    });
  }

  test("ends what is left at once, also in the middle of a stop whose hook still waits", async () => {
    const folder = stage.folder.path;
    const [mark, hookMark] = [newMark(), newMark()];
    writeFileSync(`${folder}/slow-hook`, `#!/bin/sh\nexec sleep ${hookMark}\n`, { mode: 0o755 });
    const config = { hooks: [{ exec: `${folder}/slow-hook`, stages: ["beforeStop"], timeout: "120s" }] };
    writeFileSync(`${folder}/slow-hook.yaml`, JSON.stringify(config), { mode: 0o600 });
    // With so short a window the search for what dead workers left comes every 30 s only: it is not what is asked about.
    await using own = await commandStage({ BERTH_CONFIG: `${folder}/slow-hook.yaml`, EXECUTOR_ADOPTION_WINDOW: "1ms" });
    const task = shellTask(`(setsid sleep ${mark} &); exec sleep ${mark}`);
    const executor = own.launch(task);
    await state(executor, task, "TASK_RUNNING");
    await waitFor(() => processesWith(mark).length === 2, { what: "the tree" });
    executor.kill(task.task_id.value, { gracePeriodMs: 600_000 });
    await waitFor(() => processesWith(hookMark).length > 0, { what: "the hook" });

    process.kill(executor.pid as number, "SIGKILL");

    await allGone(mark, "the end of what the worker left");
    // The hook is cut short, as its task has ended, and run once more to clean up: it would wait again.
    const over = async (): Promise<boolean> => {
      for (const pid of processesWith(hookMark)) process.kill(pid, "SIGKILL");
      return (await own.supervisor.admin.call<unknown[]>("GET", "/v1/tasks")).length === 0;
    };
    await waitFor(over, { what: "the end of the task" });
  });

  test("while the supervisor is away: the next one finds what is left", async () => {
    await using own = await commandStage();
    const mark = newMark();
    const task = shellTask(`sleep ${mark} & (setsid sleep ${mark} &); env -i sleep ${mark} & sleep ${mark}`);
    const executor = own.launch(task);
    await state(executor, task, "TASK_RUNNING");
    await waitFor(() => processesWith(mark).length >= 4, { what: "the tree" });

    await own.supervisor.kill();
    process.kill(executor.pid as number, "SIGKILL");
    await executor.exited;
    await own.startSupervisor();

    await allGone(mark, "the end of what the worker left");
  });
});

describe("the supervisor's death by SIGKILL", () => {
  test("50 command tasks do not notice, and exits meanwhile are told with their codes", async () => {
    await using own = await commandStage();
    const mark = newMark();
    const tasks = Array.from({ length: 50 }, (_, index) =>
      // Every other one ends with its own code once the file is there.
      shellTask(index % 2 === 0 ? `while [ ! -e ${own.folder.path}/end ]; do sleep 0.2; done; exit ${index}` : `exec sleep ${mark}`),
    );
    // Ten to an executor: what is asked here is about tasks, and fifty Node processes would take this test a minute.
    const executors = tasks.flatMap((_, index) => (index % 10 === 0 ? [own.executor()] : []));
    for (const [index, executor] of executors.entries()) for (const task of tasks.slice(index * 10, index * 10 + 10)) executor.launch(task);
    const executorOf = (index: number) => executors[Math.floor(index / 10)] as (typeof executors)[number];
    for (const [index, task] of tasks.entries()) await state(executorOf(index), task, "TASK_RUNNING", 90_000);
    const sleeping = processesWith(mark).sort();
    assert.equal(sleeping.length, 25);

    await own.supervisor.kill();
    writeFileSync(`${own.folder.path}/end`, "");
    await waitFor(
      () => tasks.every((task) => processesWith(`while [ ! -e ${own.folder.path}/end ]; do sleep 0.2; done`).length === 0 && task),
      {
        what: "the end of every other task",
      },
    );
    await own.startSupervisor();

    for (const [index, task] of tasks.entries()) {
      if (index % 2 === 1) continue;
      const ended = await state(executorOf(index), task, index === 0 ? "TASK_FINISHED" : "TASK_FAILED");
      assert.match(ended.message ?? "", new RegExp(`^process exited with ${index}(;|$)`));
      assert.deepEqual(statesOf(executorOf(index), task).length, 3);
    }
    assert.deepEqual(processesWith(mark).sort(), sleeping);
    for (const [index, task] of tasks.entries()) {
      if (index % 2 === 1) assert.deepEqual(statesOf(executorOf(index), task), ["TASK_STARTING", "TASK_RUNNING"]);
      if (index % 2 === 1) executorOf(index).kill(task.task_id.value, { gracePeriodMs: 5000 });
    }
    for (const executor of executors) assert.equal((await executor.exited).code, 0);
    assert.deepEqual(processesWith(mark), []);
  });

  test("in the middle of a kill: the grace period does not start anew", async () => {
    await using own = await commandStage();
    const mark = newMark();
    const task = shellTask(`trap '' TERM; sleep ${mark} & wait; wait; exec sleep ${mark}`);
    const executor = own.launch(task);
    await state(executor, task, "TASK_RUNNING");
    await waitFor(() => processesWith(mark).length === 1, { what: "the tree" });

    executor.kill(task.task_id.value, { gracePeriodMs: 2000 });
    await state(executor, task, "TASK_KILLING");
    await own.supervisor.kill();
    await own.startSupervisor();

    const killed = await state(executor, task, "TASK_KILLED");
    // A worker whose supervisor takes longer to come back than the grace period kills by itself.
    assert.match(killed.message ?? "", /SIGKILL after the 2s grace period|ended by SIGKILL/);
    assert.deepEqual(processesWith(mark), []);
    await executor.exited;
  });
});

describe("an order to start that is lost with its connection", () => {
  /** A worker that was told to start a task and has not answered. */
  async function ordered(identity?: { pid: number; startTime: string }): Promise<{ worker: ScriptedWorker; taskId: string }> {
    const { socket } = stage.supervisor;
    const worker = new ScriptedWorker({ socket, sandbox: stage.folder.path, ...(identity === undefined ? {} : { identity }) });
    await worker.connect();
    const task = shellTask("true");
    worker.launch(task);
    await waitFor(() => spawnsOf(worker).length === 1, { what: "the order to start" });
    return { worker, taskId: task.task_id.value };
  }

  test("is given again when the worker returns", async () => {
    const { worker, taskId } = await ordered();

    await worker.disconnect();
    await worker.connect();

    await waitFor(() => spawnsOf(worker).length === 2, { what: "the order once more" });
    assert.deepEqual(spawnsOf(worker)[1], spawnsOf(worker)[0]);
    worker.send({ type: "spawned", taskId, child: { pid: process.pid, startTime: "1" } });
    await worker.update(taskId, "TASK_RUNNING");
    worker.send({ type: "exited", taskId, exit: { exitCode: 0, at: Date.now() } });
    await worker.update(taskId, "TASK_FINISHED");
    await waitFor(() => worker.exitCode === 0, { what: "leave to end" });
    await worker.disconnect();
  });

  test("is not waited for when the worker died", async () => {
    const { identity, child } = startWorkerStandIn();
    const { worker, taskId } = await ordered(identity);

    await worker.disconnect();
    await ended(child);

    const gone = async (): Promise<boolean> => {
      const tasks = await stage.supervisor.admin.call<Array<{ taskId: string }>>("GET", "/v1/tasks");
      return tasks.every((task) => task.taskId !== taskId);
    };
    await waitFor(gone, { what: "the end of the task" });
  });
});

test("a worker that dies while its task's user is still looked up leaves no task behind", async () => {
  const folder = stage.folder.path;
  const mark = newMark();
  writeFileSync(`${folder}/getent`, `#!/bin/sh\nsleep ${mark}\nexec /usr/bin/getent "$@"\n`, { mode: 0o755 });
  await using own = await commandStage({ PATH: `${folder}:${process.env.PATH}` });
  const task = commandTask({ value: "true", user: "nobody" });
  const executor = own.launch(task);
  const [lookUp] = await waitFor(() => processesWith(mark).length > 0 && processesWith(mark), { what: "the look-up" });

  process.kill(executor.pid as number, "SIGKILL");
  await waitFor(() => own.log().includes("a worker died"), { what: "the notice of its death" });
  // The name service answers at last.
  process.kill(lookUp as number, "SIGKILL");

  const tasks = (): Promise<unknown[]> => own.supervisor.admin.call<unknown[]>("GET", "/v1/tasks");
  await waitFor(async () => (await tasks()).length === 0, { what: "the end of the task" });
});

function spawnsOf(worker: ScriptedWorker): unknown[] {
  return worker.received.filter((message) => message.type === "spawn");
}

describe("a launch that cannot be", () => {
  const cases: Array<[command: object, message: RegExp]> = [
    [{ value: "true", user: "nobody-of-that-name" }, /user "nobody-of-that-name" does not exist/],
    [{ shell: false, value: "/no/such/program", arguments: ["x"] }, /\/no\/such\/program does not exist/],
    [{ shell: false, value: "no-such-program", arguments: ["x"] }, /no-such-program is in no directory of PATH/],
    [{ shell: false, value: "/etc/passwd", arguments: ["x"] }, /\/etc\/passwd is not executable/],
  ];
  for (const [command, message] of cases) {
    test(`${JSON.stringify(command)}: FAILED, and says why`, async () => {
      const task = commandTask(command);
      const executor = stage.launch(task);

      assert.match((await state(executor, task, "TASK_FAILED")).message ?? "", message);
      assert.equal((await executor.exited).code, 0);
    });
  }
});

async function ended(child: ChildProcess): Promise<void> {
  assert.equal(child.exitCode ?? child.signalCode, null);
  child.kill("SIGKILL");
  await once(child, "exit");
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number);
}

function stateOf(pid: number): string {
  return /\) (\S) /.exec(readFileSync(`/proc/${pid}/stat`, "latin1"))?.[1] ?? "";
}
