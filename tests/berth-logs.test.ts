/** `berth logs` as a person types it, on containers and command tasks. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { program } from "@berth/cli/programs";
import type { LocalExecutor } from "@berth/mesos/local-agent";
import { type Dockerd, sharedDockerd, waitFor } from "@berth/test-harness";
import { shellTask } from "./command-tasks-stage.ts";
import { containerOf, dockerTask } from "./docker-tasks.ts";
import { TaskStage } from "./task-stage.ts";

let docker: Dockerd;
let stage: TaskStage;

before(async () => {
  docker = await sharedDockerd();
  stage = await TaskStage.start({ DOCKER_HOST: docker.host, EXECUTOR_SIDECAR: "false" });
});

after(async () => {
  await stage?.[Symbol.asyncDispose]();
  await docker?.stop();
});

interface Shown {
  out: string;
  err: string;
  code: number | null;
}

function berth(...args: string[]): { child: ChildProcess; shown: Shown; ended: Promise<Shown> } {
  const child = spawn(program("berth"), args, {
    env: { ...process.env, BERTH_SOCKET: stage.socket },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const shown: Shown = { out: "", err: "", code: null };
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    shown.out += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    shown.err += text;
  });
  const ended = once(child, "close").then(([code]) => {
    shown.code = code as number | null;
    return shown;
  });
  return { child, shown, ended };
}

const lines = (text: string): string[] => text.split("\n").slice(0, -1);
const numbers = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, index) => `n ${from + index}`);

describe("of a container", () => {
  const ROTATED = { parameters: ["max-size=20k", "max-file=50"].map((value) => ({ key: "log-opt", value })) };
  // dockerd reads the two streams by themselves: only a pause settles their order.
  const SCRIPT = `for i in 1 2 3; do echo "e $i" >&2; done; sleep 1; i=0; while [ $i -lt 3000 ]; do echo "n $i"; i=$((i+1)); done; trap 'go=1' USR1; while [ -z "$go" ]; do sleep 0.1; done; echo last; exit 3`;
  let id: string;
  let executor: LocalExecutor;
  before(async () => {
    const task = dockerTask(SCRIPT, { docker: ROTATED });
    id = task.task_id.value;
    executor = stage.launch(task);
    await waitFor(async () => (await berth("logs", id, "--tail", "1").ended).out === "n 2999\n", { what: "its lines" });
  });

  test("all of it, over rotated files, each stream to its own", async () => {
    const { out, err, code } = await berth("logs", id).ended;
    assert.deepEqual([lines(out), lines(err), code], [numbers(0, 3000), ["e 1", "e 2", "e 3"], 0]);
  });

  test("the last lines, also of one stream, also more than the newest file has, also none", async () => {
    const last = await berth("logs", "--tail", "4", id).ended;
    assert.deepEqual([lines(last.out), last.err], [numbers(2996, 3000), ""]);
    assert.deepEqual(lines((await berth("logs", "--tail", "2", "--stderr", id).ended).err), ["e 2", "e 3"]);
    assert.deepEqual(lines((await berth("logs", "--tail", "1501", id).ended).out), numbers(1499, 3000));
    const none = await berth("logs", "--tail", "0", id).ended;
    assert.deepEqual([none.out, none.err, none.code], ["", "", 0]);
  });

  test("since a moment: a duration, a time, and what is neither", async () => {
    const all = lines((await berth("--json", "logs", id).ended).out).map((line) => JSON.parse(line) as { time: string; text: string });
    const { time = "" } = all.find(({ text }) => text === "n 2000") ?? {};
    const fromThen = all.filter((line) => Date.parse(line.time) >= Date.parse(time)).map(({ text }) => text);
    const shown = await berth("logs", "--since", new Date(Date.parse(time)).toISOString(), id).ended;
    assert.deepEqual(
      lines(shown.out),
      fromThen.filter((text) => text.startsWith("n ")),
    );
    assert.equal(lines((await berth("logs", "--since", "1h", id).ended).out).length, 3000);
    assert.deepEqual((await berth("logs", "--since", "2099-01-01T00:00:00Z", id).ended).out, "");
    const wrong = await berth("logs", "--since", "yesterday", id).ended;
    assert.notEqual(wrong.code, 0);
    assert.match(wrong.err, /a time looks like 10m, 1h30m or 2026-01-31T12:00:00Z/);
  });

  test("a reader that stops reading ends it without a word", async () => {
    const child = spawn("sh", ["-c", `'${program("berth")}' logs ${id} | head -n 1`], {
      env: { ...process.env, BERTH_SOCKET: stage.socket },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let text = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (data: Buffer) => {
        text += data.toString();
      });
    }
    await once(child, "close");
    assert.deepEqual(
      lines(text).filter((line) => !line.startsWith("e ")),
      ["n 0"],
    );
  });

  test("Ctrl-C ends it", async () => {
    const { child, shown, ended } = berth("logs", "-f", id);
    await waitFor(() => shown.out.includes("n 2999"));
    child.kill("SIGINT");
    await ended;
    assert.equal(child.signalCode, "SIGINT");
  });

  test("berthd that dies while it is followed is told; following goes on by the next one and ends with the task", async () => {
    const first = berth("logs", "-f", "--tail", "1", id);
    await waitFor(() => first.shown.out !== "");
    await stage.supervisor.kill();
    const broken = await first.ended;
    assert.equal(broken.code, 1);
    assert.match(broken.err, /berth: berthd at .* broke off: it was stopped or restarted, or it died. Ask again/);

    await stage.startSupervisor();
    const second = await waitFor(
      async () => {
        const following = berth("logs", "-f", "--tail", "2", id);
        await Promise.race([following.ended, waitFor(() => following.shown.out !== "")]);
        return following.shown.code === null ? following : undefined;
      },
      { what: "the task at the next supervisor" },
    );
    await docker.api.call("POST", `/containers/${(await containerOf(docker, id))?.Id}/kill?signal=USR1`);
    const { out, err, code } = await second.ended;
    assert.deepEqual([lines(out), err, code], [["n 2998", "n 2999", "last"], "", 0]);

    await executor.exited;
    const gone = await berth("logs", id).ended;
    assert.equal(gone.code, 1);
    assert.match(gone.err, /^berth: .*no task/);
  });
});

describe("of a command task", () => {
  test("both streams, the last lines of each, followed to its end; times are refused in words", async () => {
    const done = `${stage.folder.path}/done-${randomBytes(4).toString("hex")}`;
    const script = `i=0; while [ $i -lt 500 ]; do echo "n $i"; i=$((i+1)); done; echo "e 1" >&2; echo "e 2" >&2; while [ ! -e ${done} ]; do sleep 0.05; done; echo last`;
    const task = shellTask(script);
    const id = task.task_id.value;
    const executor = stage.launch(task);
    await waitFor(() => existsSync(`${executor.sandbox}/stderr`) && readFileSync(`${executor.sandbox}/stderr`, "utf8").includes("e 2"));

    assert.deepEqual(lines((await berth("logs", id).ended).out), numbers(0, 500));
    const last = await berth("logs", "--tail", "2", id).ended;
    assert.deepEqual([lines(last.out), lines(last.err).slice(-2)], [numbers(498, 500), ["e 1", "e 2"]]);
    const since = await berth("logs", "--since", "10m", id).ended;
    assert.equal(since.code, 1);
    assert.match(since.err, /has no times.*--tail/);

    const following = berth("logs", "-f", "--tail", "1", id);
    await waitFor(() => following.shown.out !== "");
    writeFileSync(done, "");
    const { out, code } = await following.ended;
    assert.deepEqual([lines(out), code], [["n 499", "last"], 0]);
    await executor.exited;
  });
});
