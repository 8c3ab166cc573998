/** Command tasks: the real worker as the parent of real processes. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import type { LocalExecutor } from "@berth/mesos/local-agent";
import type { Spawn } from "@berth/protocol";
import { waitFor } from "@berth/test-harness";
import { newTask, WorkerStage } from "./stage-test-kit.ts";

interface Started extends AsyncDisposable {
  stage: WorkerStage;
  executor: LocalExecutor;
  taskId: string;
  mark: string;
  pid: number;
}

/** A task whose process is started by hand: this supervisor does not run tasks by itself. */
async function start(script: string, more: Partial<Spawn> = {}, kill: Record<string, unknown> = {}): Promise<Started> {
  const stage = await WorkerStage.start({ runs: false });
  const executor = stage.worker();
  const task = newTask(kill);
  const taskId = task.task_id.value;
  const mark = `test/${taskId}`;
  executor.launch(task);
  await waitFor(() => stage.supervisor.heard.some((message) => "tasks" in message && message.tasks.length > 0));
  stage.supervisor.send({
    type: "spawn",
    taskId,
    argv: ["/bin/sh", "-c", script],
    environment: { PATH: "/usr/bin:/bin", BERTH_TASK: mark },
    directory: executor.sandbox,
    output: "inherit",
    ...more,
  });
  const answer = await waitFor(() => stage.supervisor.said("spawned")[0] ?? stage.supervisor.said("spawnFailed")[0]);
  if (answer.type === "spawned")
    return { stage, executor, taskId, mark, pid: answer.child.pid, [Symbol.asyncDispose]: () => stage[Symbol.asyncDispose]() };
  await stage[Symbol.asyncDispose]();
  throw new Error(answer.error);
}

/** Living processes with the task's mark. */
function survivors(mark: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const state = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.[0];
        return state !== "Z" && readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(`BERTH_TASK=${mark}`);
      } catch {
        return false;
      }
    });
}

const ready = (executor: LocalExecutor): Promise<true> => waitFor(() => existsSync(`${executor.sandbox}/ready`) as true);

test("the environment is exactly the given one, the session its own, no signal is blocked", async () => {
  await using task = await start("cat /proc/self/environ > e; cat /proc/self/status > s; exit 7");

  const exited = await waitFor(() => task.stage.supervisor.said("exited")[0]);

  const environment = readFileSync(`${task.executor.sandbox}/e`, "utf8")
    .split("\0")
    .filter((line) => line !== "");
  const allowed = [`BERTH_TASK=${task.mark}`, "PATH=/usr/bin:/bin", `PWD=${task.executor.sandbox}`];
  assert.deepEqual(
    environment.filter((line) => !allowed.includes(line)),
    [],
  );
  assert.match(readFileSync(`${task.executor.sandbox}/s`, "utf8"), /^SigBlk:\s+0+$/m);
  assert.equal(exited.exit.exitCode, 7);
});

test("the root process itself gets nothing but what was given", async () => {
  await using task = await start("", { argv: ["cat", "/proc/self/environ"], output: "forward" });

  await waitFor(() => task.stage.supervisor.said("exited")[0]);
  const output = task.stage.supervisor
    .said("output")
    .map(({ data }) => Buffer.from(data, "base64").toString())
    .join("");

  assert.deepEqual(
    output
      .split("\0")
      .filter((line) => line !== "")
      .sort(),
    [`BERTH_TASK=${task.mark}`, "PATH=/usr/bin:/bin"],
  );
});

test("output is forwarded whole before the end is told, and is in the sandbox as well", async () => {
  await using task = await start("seq 20000; echo err >&2", { output: "forward" });

  await waitFor(() => task.stage.supervisor.said("exited")[0]);
  const end = task.stage.supervisor.heard.findIndex((message) => message.type === "exited");
  const before = task.stage.supervisor.heard.slice(0, end).filter((message) => message.type === "output");
  const text = (stream: string): string =>
    Buffer.concat(before.filter((message) => message.stream === stream).map(({ data }) => Buffer.from(data, "base64"))).toString();

  const expected = `${Array.from({ length: 20_000 }, (_, index) => index + 1).join("\n")}\n`;
  assert.equal(text("stdout"), expected);
  assert.equal(text("stderr"), "err\n");
  assert.equal(readFileSync(`${task.executor.sandbox}/stdout`, "utf8"), expected);
});

test("limits and user are the given ones", { skip: process.getuid?.() !== 0 && "needs root" }, async () => {
  const script = "ulimit -n; id -u; id -g; id -G";
  await using task = await start(script, {
    output: "forward",
    directory: "/",
    user: { uid: 65_534, gid: 65_534, groups: [] },
    rlimits: [{ type: "RLMT_NOFILE", soft: 123, hard: 456 }],
  });

  await waitFor(() => task.stage.supervisor.said("exited")[0]);
  const output = task.stage.supervisor
    .said("output")
    .map(({ data }) => Buffer.from(data, "base64").toString())
    .join("");

  assert.deepEqual(output.trim().split("\n"), ["123", "65534", "65534", "65534"]);
});

test("a second spawn is answered with the first result", async () => {
  await using task = await start("echo once >> runs; touch ready; sleep 1000");
  await ready(task.executor);
  const { stage, taskId } = task;
  const spawn = { argv: ["touch", "twice"], environment: {}, directory: task.executor.sandbox, output: "inherit" } as const;

  stage.supervisor.send({ type: "spawn", taskId, ...spawn, argv: [...spawn.argv] });
  const again = await waitFor(() => stage.supervisor.said("spawned")[1]);

  assert.equal(again.child.pid, task.pid);
  assert.equal(existsSync(`${task.executor.sandbox}/twice`), false);
});

describe("what cannot be started is told with its reason", () => {
  for (const [what, more, reason] of [
    ["no program", { argv: ["no-such-program"] }, /no-such-program is in no directory of PATH/],
    ["no file", { argv: ["/no/such/file"] }, /\/no\/such\/file does not exist/],
    ["no directory", { directory: "/no/such/directory" }, /\/no\/such\/directory does not exist/],
  ] as const) {
    test(what, async () => {
      await assert.rejects(start("true", { ...more, argv: "argv" in more ? [...more.argv] : ["true"] }), reason);
    });
  }
});

describe("a tree", () => {
  const TREES: Array<[string, string]> = [
    ["that ignores SIGTERM", "trap '' TERM; touch ready; while :; do sleep 0.05; done"],
    ["that stopped itself", "touch ready; kill -STOP $$; sleep 1000"],
    ["of daemons in sessions of their own", "setsid sh -c 'setsid sleep 1000 & setsid sleep 1000 &' & wait; touch ready; sleep 1000"],
    [
      "with a daemon that ignores SIGTERM, its parents gone",
      "(trap '' TERM; setsid sh -c 'while :; do sleep 0.05; done' &) ; touch ready; sleep 1000",
    ],
    ["that forks while it is killed", "f() { while :; do (sleep 0.2 &) ; sleep 0.01; done; }; f & f & f & touch ready; wait"],
    ["whose root is a zombie's parent and stopped", "sleep 0.01 & exec 3>ready; kill -STOP $$"],
    ["of a thousand", "for i in $(seq 1000); do sleep 1000 & done; touch ready; wait"],
  ];
  for (const [what, script] of TREES) {
    test(`${what} is gone after SIGKILL`, async () => {
      await using task = await start(script);
      await ready(task.executor);

      task.stage.supervisor.send({ type: "signal", taskId: task.taskId, signal: 15 });
      task.stage.supervisor.send({ type: "signal", taskId: task.taskId, signal: 9 });
      await waitFor(() => task.stage.supervisor.said("exited")[0]);

      assert.deepEqual(survivors(task.mark), []);
      assert.equal(task.executor.ended, undefined);
    });
  }

  test("gets SIGTERM as a whole, and the end is told when all of it is gone", async () => {
    await using task = await start("(trap 'sleep 0.3; touch polite; exit' TERM; touch ready; while :; do sleep 0.05; done) & wait");
    await ready(task.executor);

    task.stage.supervisor.send({ type: "signal", taskId: task.taskId, signal: 15 });
    const exited = await waitFor(() => task.stage.supervisor.said("exited")[0]);

    assert.equal(exited.exit.signal, 15);
    assert.ok(existsSync(`${task.executor.sandbox}/polite`));
    assert.deepEqual(survivors(task.mark), []);
  });

  test("left in the background by a root that ended by itself is killed", async () => {
    await using task = await start("trap '' TERM; sleep 1000 & setsid sleep 1000 & exit 3");

    const exited = await waitFor(() => task.stage.supervisor.said("exited")[0]);

    assert.equal(exited.exit.exitCode, 3);
    assert.deepEqual(survivors(task.mark), []);
  });

  test("spares the named from SIGTERM, and nobody from SIGKILL", async () => {
    await using task = await start("sleep 1000 & touch ready; wait");
    await ready(task.executor);

    task.stage.supervisor.send({ type: "signal", taskId: task.taskId, signal: 15, except: ["SLEEP"] });
    await waitFor(() => survivors(task.mark).length === 1);
    assert.equal(task.stage.supervisor.said("exited").length, 0);
    task.stage.supervisor.send({ type: "signal", taskId: task.taskId, signal: 9, except: ["SLEEP"] });

    await waitFor(() => task.stage.supervisor.said("exited")[0]);
    assert.deepEqual(survivors(task.mark), []);
  });

  test("of another task is not touched", async () => {
    await using one = await start("touch ready; sleep 1000");
    await using other = await start("touch ready; sleep 1000");
    await ready(one.executor);
    await ready(other.executor);

    one.stage.supervisor.send({ type: "signal", taskId: one.taskId, signal: 9 });
    await waitFor(() => one.stage.supervisor.said("exited")[0]);

    assert.deepEqual(survivors(one.mark), []);
    assert.equal(survivors(other.mark).length, 2);
  });
});

describe("while the supervisor is away", () => {
  test("an end is told in the next hello", async () => {
    await using task = await start("while [ ! -e go ]; do sleep 0.02; done; exit 5");
    await task.stage.supervisor.stop();
    writeFileSync(`${task.executor.sandbox}/go`, "");
    await waitFor(() => survivors(task.mark).length === 0);

    await task.stage.supervisor.listen();
    const record = await waitFor(() => task.stage.supervisor.lastHello?.tasks.find(({ exit }) => exit !== undefined), {
      what: "a hello with the exit",
    });

    assert.equal(record.exit?.exitCode, 5);
  });

  test("a KILL is SIGTERM, then SIGKILL after the task's own grace period", async () => {
    const policy = { kill_policy: { grace_period: { nanoseconds: 200_000_000 } } };
    await using task = await start("trap 'touch asked' TERM; touch ready; while :; do sleep 0.05; done", {}, policy);
    await ready(task.executor);
    await task.stage.supervisor.stop();

    task.executor.kill(task.taskId);
    await waitFor(() => survivors(task.mark).length === 0);

    assert.ok(existsSync(`${task.executor.sandbox}/asked`));
    await task.stage.supervisor.listen();
    const record = await waitFor(() => task.stage.supervisor.lastHello?.tasks.find(({ exit }) => exit !== undefined));
    assert.equal(record.exit?.signal, 9);
    assert.equal(record.wanted?.kind, "kill");
  });

  test("a SHUTDOWN ends the process, and the worker itself tells the agent", async () => {
    await using task = await start("touch ready; sleep 1000");
    await ready(task.executor);
    await task.stage.supervisor.stop();

    task.executor.shutdown();
    const killed = await task.executor.waitForState(task.taskId, "TASK_KILLED");

    assert.match(killed.message ?? "", /ended by signal 15/);
    assert.deepEqual(survivors(task.mark), []);
  });
});

test("SIGKILL of the worker takes the child along", async () => {
  await using task = await start("touch ready; exec sleep 1000");
  await ready(task.executor);

  task.executor.crash("SIGKILL");

  await waitFor(() => !existsSync(`/proc/${task.pid}`) || readFileSync(`/proc/${task.pid}/stat`, "utf8").includes(") Z "));
});
