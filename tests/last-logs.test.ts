/** What a failed task leaves behind in its sandbox and in its last update. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import type { LocalExecutor } from "@berth/mesos/local-agent";
import { type Dockerd, sharedDockerd, waitFor } from "@berth/test-harness";
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

interface Launched {
  id: string;
  executor: LocalExecutor;
  /** The message of the update that says how it ended. */
  end: () => Promise<string>;
  sandbox: (name: string) => string;
}

interface How {
  environment?: Record<string, string>;
  /** Runs in the shell that becomes the worker. */
  before?: string;
  variables?: object[];
}

function launch(script: string, { environment, before, variables = [] }: How = {}): Launched {
  const task = dockerTask(script, { command: { shell: true, value: script, environment: { variables } } });
  const executor = stage.launch(task, environment, before);
  const end = async (): Promise<string> => {
    const update = await waitFor(() => executor.updates.find(({ state }) => /FAILED|FINISHED|KILLED|ERROR/.test(state)), {
      deadline: 60_000,
      what: "its end",
    });
    await executor.exited;
    return `${update.state} ${update.message}`;
  };
  return { id: task.task_id.value, executor, end, sandbox: (name) => readFileSync(`${executor.sandbox}/${name}`, "utf8") };
}

/** Lines of the sandbox's stderr without the worker's own, whose last tells the update with the last output in it. */
function stderrOf({ sandbox }: Launched): string[] {
  const [written = ""] = sandbox("stderr").split(/^.*Z berth-worker: .*last output:$/m);
  return written.split("\n").filter((line) => line !== "" && !line.includes("Z berth-worker: "));
}

test("a task that wrote to stderr only: all of it in the sandbox, the last lines in the update, secrets hidden before they are cut", async () => {
  const secret = `s3cr3t-${randomBytes(12).toString("hex")}`;
  const script = `for i in 1 2 3 4 5 6; do echo "line $i" >&2; done; printf '%0500d%s%0200d\\n' 0 "$TOKEN" 0 >&2; exit 4`;
  const variables = [{ name: "TOKEN", type: "SECRET", secret: { type: "VALUE", value: { data: Buffer.from(secret).toString("base64") } } }];
  const task = launch(script, { variables });

  const message = await task.end();

  assert.match(message, /^TASK_FAILED container exited with 4; last output:\nline 3\nline 4\nline 5\nline 6\n0{500}\[secret f/);
  assert.doesNotMatch(message, /s3cr3t/);
  assert.ok(message.endsWith("…"));
  assert.deepEqual(stderrOf(task), [1, 2, 3, 4, 5, 6].map((i) => `line ${i}`).concat(`${"0".repeat(500)}${secret}${"0".repeat(200)}`));
  assert.equal(task.sandbox("stdout"), "");
});

test("more than the limit: the end of it, behind a mark", async () => {
  const task = launch(`yes "$(printf '%099d' 0)" | head -n 100000; echo last; exit 1`);

  assert.match(await task.end(), /TASK_FAILED/);

  const [mark, ...lines] = task.sandbox("stdout").trimEnd().split("\n");
  assert.equal(mark, "[earlier output left out: only the last 8388608 bytes are copied]");
  assert.equal(lines.at(-1), "last");
  assert.equal(lines.length, Math.floor((8_388_608 - 5) / 100) + 1);
});

test("only what is newer than LogsSince before its end, also where that came while no supervisor was there", async () => {
  const task = launch("echo old; sleep 4; echo new; exit 1", { environment: { EXECUTOR_LOGS_SINCE: "2s" } });
  await waitFor(() => task.executor.updates.some(({ state }) => state === "TASK_RUNNING"));
  await stage.supervisor.kill();
  await waitFor(async () => (await containerOf(docker, task.id))?.State === "exited", { what: "the container's end" });
  // By the time that the next one looks, the window would be over if it were counted from now.
  await new Promise((resolve) => setTimeout(resolve, 3000));
  await stage.startSupervisor();

  assert.match(await task.end(), /TASK_FAILED container exited with 1; last output:\nnew$/);
  assert.equal(task.sandbox("stdout"), "new\n");
});

test("not a second time where the sandbox has it already", async () => {
  const task = launch("for i in 1 2 3; do echo line $i; done; sleep 1; echo end >&2; exit 1", {
    environment: { EXECUTOR_CONTAINER_LOGS_STDOUT: "true" },
  });

  assert.match(await task.end(), /TASK_FAILED container exited with 1; last output:\n/);
  assert.equal(task.sandbox("stdout"), "line 1\nline 2\nline 3\n");
  assert.deepEqual(stderrOf(task), ["end"]);
});

test("where the agent's logger is between, the worker writes it before it leaves, as slowly as that takes it", async () => {
  const before = "mkfifo out err; (sleep 2; exec cat) < out > piped-out & cat err > piped-err & exec > out 2> err";
  const task = launch(`yes "$(printf '%099d' 0)" | head -n 60000; echo last; echo problem >&2; exit 1`, { before });

  assert.match(await task.end(), /TASK_FAILED/);
  await waitFor(() => task.sandbox("piped-out").endsWith("last\n"), { what: "the logger's last line" });

  assert.equal(task.sandbox("piped-out").length, 60_000 * 100 + 5);
  assert.match(task.sandbox("piped-err"), /^problem$/m);
});
