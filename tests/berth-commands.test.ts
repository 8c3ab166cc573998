/** `berth` as a person and as a script has it: against a real berthd, against one of another version, and typed wrongly. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { HookRows, HostEvent, HostInfo, LogLine, PlanView, SettingRows, TaskInspection, TaskSummaries, VaultView } from "@berth/admin-api";
import { LocalSupervisor } from "@berth/cli/local-supervisor";
import { program } from "@berth/cli/programs";
import { LocalAgent, type LocalExecutor } from "@berth/mesos/local-agent";
import { type TempDir, tempDir, waitFor } from "@berth/test-harness";

const { version: VERSION } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string };

interface Shown {
  code: number;
  out: string;
  err: string;
}

/** Runs `berth` to its end. */
function berth(socket: string, ...args: string[]): Promise<Shown> {
  return new Promise((resolve) => {
    execFile(program("berth"), args, { env: { ...process.env, BERTH_SOCKET: socket } }, (error, out, err) =>
      resolve({ code: error === null ? 0 : Number(error.code), out, err }),
    );
  });
}

let folder: TempDir;
before(async () => {
  folder = await tempDir("bc");
});
after(async () => {
  await folder?.remove();
});

describe("with a berthd", () => {
  let supervisor: LocalSupervisor;
  let agent: LocalAgent;
  let executor: LocalExecutor;
  const id = `bc-${randomBytes(4).toString("hex")}`;
  const shown = async (...args: string[]): Promise<string> => {
    const { code, out, err } = await berth(supervisor.socket, ...args);
    assert.deepEqual([code, err], [0, ""], args.join(" "));
    return out;
  };

  before(async () => {
    const environment = { EXECUTOR_SIDECAR: "false", DOCKER_HOST: `unix://${folder.path}/none.sock` };
    supervisor = await LocalSupervisor.start({ directory: folder.path, environment, logFile: `${folder.path}/berthd.log` });
    agent = await LocalAgent.start({ workDirectory: `${folder.path}/agent`, checkpoint: true });
    executor = agent.startExecutor({
      executorId: `x-${id}`,
      command: `exec ${program("berth-worker")}`,
      environment: { PATH: process.env.PATH ?? "", BERTH_SOCKET: supervisor.socket },
    });
    executor.launch({ task_id: { value: id }, command: { shell: true, value: "echo one; echo two; sleep 1000" } });
    await waitFor(async () => (await berth(supervisor.socket, "logs", id)).out === "one\ntwo\n", { what: "its output" });
  });
  after(async () => {
    await agent?.stop();
    await supervisor?.stop();
  });

  test("every answer is what the schemas say, and goes whole to a script", async () => {
    const { admin } = supervisor;
    const path = `/v1/tasks/${id}`;
    const { value, text } = await admin.ask(TaskInspection, "GET", path);
    assert.equal(value.taskId, id);
    assert.equal(value.healthy, null);
    assert.equal(value.events.at(-1)?.what, "TASK_RUNNING");
    assert.deepEqual(Object.keys(JSON.parse(await shown("inspect", "--json", id))), Object.keys(JSON.parse(text)));
    assert.equal(JSON.parse(await shown("--json", "inspect", id)).task.command.value, "echo one; echo two; sleep 1000");

    const tasks = await admin.ask(TaskSummaries, "GET", "/v1/tasks");
    assert.equal(await shown("ps", "--json"), `${tasks.text}\n`);
    const settings = await admin.ask(SettingRows, "GET", "/v1/config");
    assert.equal(await shown("config", "--json"), `${settings.text}\n`);
    const hooks = await admin.ask(HookRows, "GET", "/v1/hooks");
    assert.equal(await shown("hooks", "--json"), `${hooks.text}\n`);
    assert.equal(await shown("events", "--json"), await admin.text("/v1/events"));
    assert.equal(await shown("logs", "--json", id), await admin.text(`${path}/logs`));
    for await (const event of admin.lines(HostEvent, "/v1/events")) assert.equal(event.value.taskId, id);
    for await (const line of admin.lines(LogLine, `${path}/logs`)) assert.equal(line.value.stream, "stdout");
    const info = await admin.ask(HostInfo, "GET", "/v1/info");
    assert.deepEqual(Object.keys(JSON.parse(await shown("info", "--json"))), Object.keys(JSON.parse(info.text)));
    assert.equal(info.value.version, VERSION);
    await admin.ask(VaultView, "GET", "/v1/vault");
    const taskInfo = { task_id: { value: "p" }, command: { value: "true" } };
    writeFileSync(`${folder.path}/p.json`, JSON.stringify(taskInfo));
    const plan = await admin.ask(PlanView, "POST", "/v1/plan", { taskInfo });
    assert.equal(await shown("plan", "--json", `${folder.path}/p.json`), `${plan.text}\n`);
  });

  test("a person reads words and times", async () => {
    assert.match(await shown("ps"), new RegExp(`^TASK .*\n${id} +RUNNING +- .*the task runs\n$`));
    assert.match(
      await shown("inspect", id),
      new RegExp(`^task +${id}\nstate +RUNNING, told .*ago\\)\n(.*\n)*now +running: the task runs\n`),
    );
    assert.match(await shown("events"), new RegExp(`\\d\\d:\\d\\d:\\d\\d\\.\\d{3} {2}${id} {2}TASK_RUNNING\n$`));
    assert.match(await shown("info"), /^started .* ago\)\n(.*\n)*executors +1\n(.*\n)*dockerd +NOT READY: /m);
  });

  test("what berthd refuses is said in its words, with exit code 1", async () => {
    const { code, err } = await berth(supervisor.socket, "inspect", "nobody");
    assert.deepEqual([code, err], [1, 'berth: no task on this host has an id or name that begins with "nobody"\n']);
  });

  test("a task that is killed is told to whom it was", async () => {
    assert.equal(await shown("kill", "--grace", "2s", id), `${id} is being stopped (grace period 2s)\n`);
    await waitFor(() => executor.updates.some(({ state }) => state === "TASK_KILLED"), { what: "its end" });
  });
});

test("a berthd of another version: both versions and the field are named, and a script gets nothing", async () => {
  const answers: Record<string, string> = {
    "/v1/info": '{"version":"9.9.9"}',
    "/v1/tasks": '[{"taskId":7}]',
    "/v1/events?since=0": '{"sequence":1,"at":1,"taskId":"t","what":"started","new":true}\n{"sequence":2}\n',
    "/v1/tasks/t/logs?": '{"stream":"stdout","time":"","text":"one"}\nno JSON\n',
    "/v1/config": "<html>",
  };
  const other = createServer((request, response) => response.end(answers[request.url ?? ""]));
  other.listen(`${folder.path}/admin.sock`);
  await once(other, "listening");
  try {
    const socket = `${folder.path}/berthd.sock`;
    const ps = await berth(socket, "--json", "ps");
    assert.deepEqual([ps.code, ps.out], [1, ""]);
    assert.match(
      ps.err,
      /^berth: berthd 9\.9\.9 at .* does not fit this berth, which is \S+: .*\/v1\/tasks otherwise: "0\.taskId" is a number, not a text; /,
    );
    assert.match((await berth(socket, "info")).err, /berthd 9\.9\.9 .*"node" is missing/);
    assert.match((await berth(socket, "config")).err, /the answer is not JSON/);
    const logs = await berth(socket, "logs", "t");
    assert.deepEqual([logs.code, logs.out], [1, "one\n"]);
    assert.match(logs.err, /(does not fit .* the answer is not JSON|broke off)/);
    const events = await berth(socket, "--json", "events");
    assert.deepEqual([events.code, events.out], [1, '{"sequence":1,"at":1,"taskId":"t","what":"started","new":true}\n']);
    assert.match(events.err, /\/v1\/events otherwise: "taskId" is missing; "at" is missing/);
  } finally {
    other.closeAllConnections();
    other.close();
  }
});

describe("typed wrongly", () => {
  const wrong: Array<[string[], RegExp]> = [
    [[], /^Usage: berth/],
    [["nothing"], /^error: unknown command 'nothing'/],
    [["vault"], /^Usage: berth vault/],
    [["vault", "nothing"], /^error: unknown command 'nothing'/],
    [["inspect"], /^error: missing required argument 'task'/],
    [["ps", "x"], /^error: too many arguments/],
    [["ps", "--nothing"], /^error: unknown option '--nothing'/],
    [["logs", "t", "--tail", "many"], /^error: .*a whole number is expected/],
    [["events", "--since", "yesterday"], /^error: .*a time looks like/],
    [["kill", "t", "--grace", "long"], /^error: .*a duration looks like/],
    [["run", "-e", "NAME", "f"], /^error: .*a variable is written NAME=value/],
    [["plan", "/nowhere/t.json"], /^berth: there is no file \/nowhere\/t\.json\n$/],
    [["plan", program("berth")], /^berth: .* is not JSON: /],
    [["run", program("berth")], /^berth: .* is not JSON: /],
  ];
  for (const [args, err] of wrong) {
    test(`berth ${args.join(" ")}: exit code 2`, async () => {
      const shown = await berth("/nowhere/berthd.sock", ...args);
      assert.deepEqual([shown.code, shown.out], [2, ""]);
      assert.match(shown.err, err);
    });
  }

  test("help and version are no mistakes; a berthd that is away is exit code 1", async () => {
    for (const args of [["--help"], ["help"], ["logs", "--help"], ["help", "logs"]]) {
      const { code, out, err } = await berth("/nowhere/berthd.sock", ...args);
      assert.deepEqual([code, err], [0, ""]);
      assert.match(out, /^Usage: berth/);
    }
    assert.deepEqual(await berth("/nowhere/berthd.sock", "--version"), { code: 0, out: `${VERSION}\n`, err: "" });
    assert.equal((await berth("/nowhere/berthd.sock", "ps")).code, 1);
  });
});
