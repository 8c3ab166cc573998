/** Command tasks in cgroups of their own: below each kind of hierarchy that a host may have, with real processes that nothing else finds. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import type { LocalExecutor } from "@berth/mesos/local-agent";
import { waitFor } from "@berth/test-harness";
import { allGone, commandStage, newMark, processesWith, shellTask } from "./command-tasks-stage.ts";
import { state, stdoutOf, type TaskStage } from "./task-stage.ts";

/** A cgroup as the agent makes one for an executor. */
interface ExecutorCgroup extends AsyncDisposable {
  directory: string;
  /** What the shell does that becomes the worker. */
  enter: string;
  /** Those that the worker made for tasks. */
  ofTasks(): string[];
}

const V2 = existsSync("/sys/fs/cgroup/cgroup.controllers") ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";
const HIERARCHIES: ReadonlyArray<[name: string, mount: string]> = [
  ["cgroup v2", V2],
  ["the v1 freezer", "/sys/fs/cgroup/freezer"],
  ["the v1 memory hierarchy", "/sys/fs/cgroup/memory"],
];

let stage: TaskStage;
before(async () => {
  // With so short a window the search for what dead workers left comes every 30 s only, too late for the tests of what else ends it.
  stage = await commandStage({ EXECUTOR_ADOPTION_WINDOW: "1ms" });
});
after(async () => {
  await stage?.[Symbol.asyncDispose]();
});

for (const [name, mount] of HIERARCHIES) {
  const usable = existsSync(`${mount}/cgroup.procs`) && process.getuid?.() === 0;
  describe(`below ${name}`, { skip: usable ? false : "it is not mounted here, or needs root" }, () => {
    test("a task is in its cgroup from its first instruction on, the worker is not, and nothing is left behind", async () => {
      await using cgroup = makeCgroup(mount);
      const mark = newMark();
      const task = shellTask(`cat /proc/self/cgroup; (cat /proc/self/cgroup); exec sleep ${mark}`);
      const executor = stage.launch(task, {}, cgroup.enter);
      await state(executor, task, "TASK_RUNNING");
      await waitFor(() => processesWith(mark).length === 1);

      const [own] = cgroup.ofTasks();
      const lines = stdoutOf(executor).split("\n");
      assert.equal(lines.filter((line) => line.endsWith(`${cgroup.directory.slice(mount.length)}/${own}`)).length, 2);
      for (const thread of readdirSync(`/proc/${executor.pid}/task`)) {
        assert.equal(readFileSync(`/proc/${executor.pid}/task/${thread}/cgroup`, "utf8").includes(`/${own}`), false);
      }
      assert.doesNotMatch(readFileSync(`${executor.sandbox}/stderr`, "utf8"), /cannot be joined/);
      executor.kill(task.task_id.value, { gracePeriodMs: 1000 });
      await state(executor, task, "TASK_KILLED");
      await executor.exited;
      assert.deepEqual(cgroup.ofTasks(), []);
    });

    test("one that cannot be started leaves none either", async () => {
      await using cgroup = makeCgroup(mount);
      const task = shellTask("true");
      const executor = stage.launch({ ...task, command: { shell: false, value: "/etc/passwd", arguments: ["x"] } }, {}, cgroup.enter);

      await state(executor, task, "TASK_FAILED");
      await executor.exited;

      assert.deepEqual(cgroup.ofTasks(), []);
    });

    test("a kill ends daemons that clear their environment and fork while they are killed", async () => {
      await using cgroup = makeCgroup(mount);
      const mark = newMark();
      const task = shellTask(`sh ${daemons(mark)} & sleep ${mark}; wait`);
      const executor = stage.launch(task, {}, cgroup.enter);
      await state(executor, task, "TASK_RUNNING");
      await waitFor(() => processesWith(mark).length > 10, { what: "the daemons" });

      executor.kill(task.task_id.value, { gracePeriodMs: 200 });
      await state(executor, task, "TASK_KILLED");

      assert.deepEqual(processesWith(mark), []);
      await executor.exited;
      assert.deepEqual(cgroup.ofTasks(), []);
    });

    test("a kill ends chains of processes that only fork and end, faster than they can be listed", async () => {
      await using cgroup = makeCgroup(mount);
      const mark = newMark();
      const task = shellTask(`for i in 1 2 3 4; do sh ${chain(mark)} ${mark} & done; sleep ${mark}; wait`);
      const executor = stage.launch(task, {}, cgroup.enter);
      await state(executor, task, "TASK_RUNNING");
      const list = `${cgroup.directory}/${cgroup.ofTasks()[0]}/cgroup.procs`;
      // A link of a chain is gone before anybody can look at it in /proc.
      await waitFor(() => readFileSync(list, "utf8").split("\n").length > 3, { what: "the chains" });

      executor.kill(task.task_id.value, { gracePeriodMs: 200 });
      await state(executor, task, "TASK_KILLED");
      await executor.exited;

      // With anybody in it the cgroup could not be removed.
      assert.deepEqual([cgroup.ofTasks(), processesWith(mark)], [[], []]);
    });

    test("the worker's SIGKILL ends them too, and takes the cgroup along, and nothing of another task", async () => {
      await using cgroup = makeCgroup(mount);
      const [mark, others] = [newMark(), newMark()];
      const neighbour = shellTask(`(setsid env -i sleep ${others} &); exec sleep ${others}`);
      const other = stage.launch(neighbour, {}, cgroup.enter);
      const daemon = `(setsid env -i sh -c "trap '' TERM HUP; sleep ${mark} & wait" &)`;
      const task = shellTask(`sh ${daemons(mark)} & sh ${chain(mark)} & ${daemon}; sleep ${mark}; wait`);
      const executor = stage.launch(task, {}, cgroup.enter);
      await state(other, neighbour, "TASK_RUNNING");
      await state(executor, task, "TASK_RUNNING");
      await waitFor(() => processesWith(mark).length > 10 && processesWith(others).length === 2, { what: "the daemons" });

      process.kill(executor.pid as number, "SIGKILL");

      await allGone(mark, "the end of what the worker left");
      await waitFor(() => cgroup.ofTasks().length === 1, { what: "the removal of the cgroup" });
      assert.equal(processesWith(others).length, 2);
      await ended(other, neighbour.task_id.value);
    });

    test("a cgroup that a task made below its own goes with it", async () => {
      await using cgroup = makeCgroup(mount);
      const mark = newMark();
      const own = `${cgroup.directory}/berth-$MESOS_TASK_ID.*`;
      const script = `cd ${own} && mkdir inner && (setsid env -i sh -c 'echo 0 > inner/cgroup.procs; exec sleep ${mark}' &); exec sleep ${mark}`;
      const task = shellTask(script);
      const executor = stage.launch(task, {}, cgroup.enter);
      await state(executor, task, "TASK_RUNNING");
      await waitFor(() => processesWith(mark).length === 2 && existsSync(`${cgroup.directory}/${cgroup.ofTasks()[0]}/inner`));

      process.kill(executor.pid as number, "SIGKILL");

      await allGone(mark, "the end of what the worker left");
      await waitFor(() => cgroup.ofTasks().length === 0, { what: "the removal of both cgroups" });
    });

    const still: Array<[what: string, end: (executor: LocalExecutor, taskId: string) => void]> = [
      ["a kill", (executor, taskId) => executor.kill(taskId, { gracePeriodMs: 200 })],
      ["the worker's SIGKILL", (executor) => void process.kill(executor.pid as number, "SIGKILL")],
    ];
    for (const [what, end] of still) {
      test(`${what} ends also what the task itself holds still in a cgroup below its own`, async () => {
        await using cgroup = makeCgroup(mount);
        const mark = newMark();
        const own = `${cgroup.directory}/berth-$MESOS_TASK_ID.*`;
        const freeze = "if [ -e inner/freezer.state ]; then echo FROZEN > inner/freezer.state; else echo 1 > inner/cgroup.freeze; fi";
        const inside = `sh -c 'echo 0 > inner/cgroup.procs; exec sleep ${mark}'`;
        const task = shellTask(`cd ${own} && mkdir inner && (${inside} &); sleep 0.5; ${freeze}; exec sleep ${mark}`);
        const executor = stage.launch(task, {}, cgroup.enter);
        await state(executor, task, "TASK_RUNNING");
        await waitFor(() => processesWith(mark).length === 2, { what: "the processes" });

        end(executor, task.task_id.value);

        await allGone(mark, "the end of the task");
        await waitFor(() => cgroup.ofTasks().length === 0, { what: "the removal of both cgroups" });
        await executor.exited;
      });
    }

    test("the death of a worker that holds its task still to kill it: the task ends all the same", async () => {
      await using cgroup = makeCgroup(mount);
      const mark = newMark();
      const task = shellTask(`sleep ${mark} & (setsid env -i sleep ${mark} &); exec sleep ${mark}`);
      const executor = stage.launch(task, {}, cgroup.enter);
      await state(executor, task, "TASK_RUNNING");
      await waitFor(() => processesWith(mark).length === 3, { what: "the processes" });

      const hold = `${cgroup.directory}/${cgroup.ofTasks()[0]}/freezer.state`;
      if (existsSync(hold)) writeFileSync(hold, "FROZEN");
      process.kill(executor.pid as number, "SIGKILL");

      await allGone(mark, "the end of the task");
      await waitFor(() => cgroup.ofTasks().length === 0, { what: "the removal of the cgroup" });
    });

    test("the worker's SIGKILL while no supervisor is there: the next one ends them", async () => {
      await using own = await commandStage();
      await using cgroup = makeCgroup(mount);
      const mark = newMark();
      const task = shellTask(`(setsid env -i sh -c "sleep ${mark} & sleep ${mark}" &); exec sleep ${mark}`);
      const executor = own.launch(task, {}, cgroup.enter);
      await state(executor, task, "TASK_RUNNING");
      await waitFor(() => processesWith(mark).length === 3, { what: "the daemons" });

      await own.supervisor.kill();
      process.kill(executor.pid as number, "SIGKILL");
      await executor.exited;
      await own.startSupervisor();

      await allGone(mark, "the end of what the worker left");
      await waitFor(() => cgroup.ofTasks().length === 0, { what: "the removal of the cgroup" });
    });
  });
}

/** A script whose copies clear their environment, begin sessions of their own, lose their parents and go on: only a cgroup lists them all. */
function daemons(mark: string): string {
  const path = `${stage.folder.path}/daemons-${mark}`;
  writeFileSync(path, `trap '' TERM HUP\nsleep ${mark} &\nsleep 0.03\n(setsid env -i PATH=/usr/bin:/bin sh ${path} &)\n`);
  return path;
}

/** A script whose copies each start the next one, as another session's, and end. */
function chain(mark: string): string {
  const path = `${stage.folder.path}/chain-${mark}`;
  writeFileSync(path, `trap '' TERM HUP\nenv -i /usr/bin/setsid /bin/sh ${path} ${mark} &\n`);
  return path;
}

function makeCgroup(mount: string): ExecutorCgroup {
  const directory = `${mount}/executor-${randomBytes(5).toString("hex")}`;
  mkdirSync(directory);
  return {
    directory,
    enter: `echo $$ > ${directory}/cgroup.procs`,
    ofTasks: () => readdirSync(directory).filter((name) => name.startsWith("berth-")),
    [Symbol.asyncDispose]: async () => {
      await waitFor(
        () => {
          rmdirSync(directory);
          return true;
        },
        { what: `the end of all in ${directory}` },
      );
    },
  };
}

async function ended(executor: LocalExecutor, taskId: string): Promise<void> {
  executor.kill(taskId, { gracePeriodMs: 0 });
  await executor.exited;
}
