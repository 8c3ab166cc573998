/**
 * Output of many tasks while everything between them and the receiver dies in turn: real dockerd, real workers, real berthd, and a
 * receiver that counts.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, globSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { after, before, test } from "node:test";
import { LogLine } from "@berth/admin-api";
import type { LocalExecutor, TaskInfoInput } from "@berth/mesos/local-agent";
import { type Dockerd, startDockerd, waitFor } from "@berth/test-harness";
import { containerOf, dockerTask } from "./docker-tasks.ts";
import { TaskStage } from "./task-stage.ts";

const CONTAINERS = 30;
const LINES = 20_000;
const EXECUTORS = 3;
/** Writers of the smaller tests, numbered behind the others. */
const MORE = 3;
/** What may come twice for each interruption and stream. */
const BATCH_BYTES = 64 * 1024;
const FINISHED = "TASK_FINISHED container exited with 0";
const PADDING = "x".repeat(50);

/** Takes octet-counted syslog over TCP and counts each number of each task. */
class Receiver {
  readonly seen: Uint8Array[] = Array.from({ length: CONTAINERS + MORE }, () => new Uint8Array(LINES));
  lines = 0;
  unknown: string[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor() {
    this.#server = createServer((socket) => this.#accept(socket));
  }

  async listen(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  missing(task: number): number {
    return this.seen[task]?.reduce((sum, count) => sum + (count === 0 ? 1 : 0), 0) ?? 0;
  }

  twice(task: number): number {
    return this.seen[task]?.reduce((sum, count) => sum + Math.max(0, count - 1), 0) ?? 0;
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    let rest: Buffer = Buffer.alloc(0);
    socket.on("data", (bytes: Buffer) => {
      rest = this.#frames(rest.length === 0 ? bytes : Buffer.concat([rest, bytes]));
    });
    // A frame that the sender's death cut off does not count: it comes again.
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
  }

  #frames(bytes: Buffer): Buffer {
    let at = 0;
    for (;;) {
      const space = bytes.indexOf(32, at);
      if (space < 0) break;
      const end = space + 1 + Number(bytes.toString("latin1", at, space));
      if (!(end <= bytes.length)) break;
      this.#message(bytes.toString("latin1", Math.max(space + 1, end - 100), end));
      at = end;
    }
    return bytes.subarray(at);
  }

  #message(text: string): void {
    const match = / t(\d+) n (\d+) x+$/.exec(text);
    const counts = this.seen[Number(match?.[1])];
    const number = Number(match?.[2]);
    if (counts === undefined || !(number < LINES)) this.unknown.push(text);
    else counts[number] = (counts[number] ?? 0) + 1;
    this.lines += 1;
  }
}

let docker: Dockerd;
let receiver: Receiver;
let stage: TaskStage;

before(async () => {
  docker = await startDockerd({ liveRestore: true });
  receiver = new Receiver();
  stage = await TaskStage.start({
    DOCKER_HOST: docker.host,
    EXECUTOR_SIDECAR: "false",
    EXECUTOR_REMOVE_CONTAINERS: "false",
    EXECUTOR_RELAY_SYSLOG: "true",
    EXECUTOR_SYSLOG_FORMAT: "rfc5424-tcp",
    EXECUTOR_SYSLOG_ADDR: await receiver.listen(),
    NODE_OPTIONS: `--import="${import.meta.dirname}/end-log-thread.mjs"`,
  });
});

after(async () => {
  await stage?.[Symbol.asyncDispose]();
  await docker?.stop();
  await receiver?.close();
});

async function endLogThread(): Promise<void> {
  const trigger = `${stage.folder.path}/end-log-thread`;
  writeFileSync(trigger, "");
  await waitFor(() => !existsSync(trigger), { what: "the log thread's end" });
  await waitFor(() => /a worker thread died/.test(stage.log()), { what: "a new log thread" });
}

const ROTATED = ["log-driver=json-file", "log-opt=max-size=1m", "log-opt=max-file=10"];

/** Writes numbered lines in bursts, so that every interruption meets a container that writes. */
function writer(index: number, options: string[] = ROTATED): TaskInfoInput {
  const script = `i=0; while [ $i -lt ${LINES} ]; do echo "t${index} n $i ${PADDING}"; i=$((i+1)); [ $((i % ${LINES / 10})) = 0 ] && sleep 1; done`;
  const parameters = options.map((option) => {
    const at = option.indexOf("=");
    return { key: option.slice(0, at), value: option.slice(at + 1) };
  });
  return dockerTask(script, { docker: { parameters } });
}

function endOf({ updates }: LocalExecutor, task: TaskInfoInput): string | undefined {
  const over = /FINISHED|FAILED|KILLED|LOST|ERROR/;
  const update = updates.find(({ task_id, state }) => task_id.value === task.task_id.value && over.test(state));
  return update === undefined ? undefined : `${update.state} ${update.message}`;
}

/** What berthd itself says of lost output. */
function warnings(): string {
  const lines = stage.log().split("\n");
  return lines.filter((line) => /"msg":"[^"]*(output|log target)/.test(line)).join("\n");
}

/** Numbers that never came although Docker had them: a dockerd that is restarted loses some itself, before they are in its file. */
async function lostOf(task: TaskInfoInput, index: number): Promise<number[]> {
  if (receiver.missing(index) === 0) return [];
  const container = await containerOf(docker, task.task_id.value);
  const { LogPath } = await docker.api.call<{ LogPath: string }>("GET", `/containers/${container?.Id}/json`);
  const files = globSync(`${LogPath}*`).map((path) => readFileSync(path, "latin1"));
  const numbers = files.flatMap((text) => [...text.matchAll(/"t\d+ n (\d+) /g)].map((match) => Number(match[1])));
  return numbers.filter((number) => receiver.seen[index]?.[number] === 0);
}

test("every number of 30 containers arrives, whatever dies meanwhile, and little of it twice", { timeout: 300_000 }, async () => {
  const executors = Array.from({ length: EXECUTORS }, () => stage.executor());
  const tasks = Array.from({ length: CONTAINERS }, (_, index) => writer(index));
  for (const [index, task] of tasks.entries()) executors[index % EXECUTORS]?.launch(task);
  const total = CONTAINERS * LINES;
  const reached = async (part: number): Promise<void> => {
    await waitFor(() => receiver.lines > total * part, { deadline: 120_000, what: `${part * 100} % of the lines` });
  };
  const ended = (task: TaskInfoInput): string | undefined => executors.map((executor) => endOf(executor, task)).find(Boolean);

  await reached(0.1);
  await stage.supervisor.kill();
  await stage.startSupervisor();
  await reached(0.25);
  await endLogThread();
  await reached(0.4);
  await docker.restart();
  await reached(0.6);
  await endLogThread();
  await reached(0.75);
  await stage.supervisor.kill();
  await stage.startSupervisor();
  for (const task of tasks) await waitFor(() => ended(task) !== undefined, { deadline: 120_000, what: `the end of ${task.task_id.value}` });

  assert.deepEqual(
    tasks.map((task) => ended(task)),
    tasks.map(() => FINISHED),
  );
  assert.deepEqual(receiver.unknown, []);
  // What the kernel had taken may still be on its way to the receiver.
  await waitFor(() => tasks.every((_, index) => receiver.missing(index) === 0), { deadline: 5000 }).catch(() => {});
  const lost = await Promise.all(tasks.map(async (task, index) => ({ index, numbers: await lostOf(task, index) })));
  assert.deepEqual(
    lost.filter(({ numbers }) => numbers.length > 0),
    [],
    warnings(),
  );
  // Twice the daemon, twice the thread; a new dockerd interrupts no reader of files.
  for (const index of tasks.keys()) {
    const bytes = receiver.twice(index) * (`t${index} n ${LINES} ${PADDING}`.length + 1);
    assert.ok(bytes <= 4 * BATCH_BYTES, `task ${index} came ${bytes} bytes twice`);
  }
});

for (const [index, driver] of (["json-file", "local"] as const).entries()) {
  test(`what a container writes by the ${driver} driver until its end, while no supervisor is there, is relayed by the next one`, async () => {
    const options = [`log-driver=${driver}`, "log-opt=max-size=200k", "log-opt=max-file=20", "log-opt=compress=true"];
    const number = CONTAINERS + index;
    const task = writer(number, options);
    const executor = stage.launch(task);
    await waitFor(() => receiver.missing(number) < LINES, { what: "the first lines" });

    await stage.supervisor.kill();
    await waitFor(async () => (await containerOf(docker, task.task_id.value))?.State === "exited", { deadline: 60_000, what: "its end" });
    await stage.startSupervisor();
    await waitFor(() => endOf(executor, task), { deadline: 60_000, what: "its last update" });

    assert.equal(endOf(executor, task), FINISHED);
    await waitFor(() => receiver.missing(number) === 0, { what: "the last lines" });
    assert.ok(receiver.twice(number) * (`t${number} n ${LINES} ${PADDING}`.length + 1) <= BATCH_BYTES);
  });
}

test("who reads a task's output goes on by the next log thread, and comes to its end with the task", async () => {
  const number = CONTAINERS + 2;
  const task = writer(number);
  stage.launch(task);
  await waitFor(() => receiver.missing(number) < LINES, { what: "the first lines" });

  const seen: number[] = [];
  const reading = (async () => {
    const path = `/v1/tasks/${task.task_id.value}/logs?follow=true`;
    for await (const { value } of stage.supervisor.admin.lines(LogLine, path)) seen.push(Number(value.text.split(" ")[2]));
  })();
  for (const part of [0.2, 0.5]) {
    await waitFor(() => seen.length > LINES * part, { what: "lines that are shown" });
    await endLogThread();
  }
  await reading;

  assert.equal(new Set(seen).size, LINES);
  assert.equal(seen.length, LINES);
});
