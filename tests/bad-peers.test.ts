/** Peers that break the rules of the two sockets: each loses its own connection, and a task beside it does not notice. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { encodeFrame, type WorkerMessage } from "@berth/protocol";
import { encodeRecord } from "@berth/recordio";
import { BUSYBOX_IMAGE, type Dockerd, type ScriptedWorker, sharedDockerd, waitFor } from "@berth/test-harness";
import { dockerTask, WAITING } from "./docker-tasks.ts";
import { ScriptedStage } from "./scripted-stage.ts";

let docker: Dockerd;
let stage: ScriptedStage;
let bystander: ScriptedWorker;
const task = dockerTask(WAITING);
const bystandersTask = task.task_id.value;

before(async () => {
  docker = await sharedDockerd();
  stage = await ScriptedStage.on(docker);
  await stage.startSupervisor();
  bystander = await stage.worker();
  bystander.launch(task);
  await bystander.update(bystandersTask, "TASK_RUNNING");
});

after(async () => {
  if (bystander?.connected) {
    bystander.kill(bystandersTask);
    await bystander.update(bystandersTask, "TASK_KILLED");
    await waitFor(() => bystander.exitCode === 0);
  }
  await stage?.endWorkers();
  await stage?.[Symbol.asyncDispose]();
  await docker?.stop();
});

async function dial(path = stage.socket): Promise<Socket> {
  const socket = connect(path);
  socket.on("error", () => {});
  await once(socket, "connect");
  return socket;
}

function closed(socket: Socket): Promise<unknown> {
  socket.resume();
  return waitFor(() => socket.closed || socket.readableEnded, { what: "the end of the connection" });
}

function residentMb(): number {
  const kb = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${stage.supervisor.pid}/status`, "utf8"))?.[1];
  return Number(kb) / 1024;
}

/** Nothing has happened to the daemon and to the task beside. */
async function unharmed(): Promise<void> {
  assert.equal(stage.supervisor.running, true);
  assert.deepEqual(bystander.statesOf(bystandersTask), ["TASK_STARTING", "TASK_RUNNING"]);
  assert.equal(bystander.connected, true);
  const [told] = await stage.supervisor.admin.call<Array<{ taskId: string; worker: string }>>("GET", "/v1/tasks");
  assert.deepEqual([told?.taskId, told?.worker], [bystandersTask, "connected"]);
}

function frame(value: unknown): Uint8Array {
  return encodeRecord(Buffer.from(JSON.stringify(value)));
}

function helloOf(worker: ScriptedWorker): WorkerMessage {
  return { ...worker.hello, tasks: [] };
}

describe("on the workers' socket", () => {
  const breaches: Array<[what: string, bytes: () => Array<Uint8Array | string>]> = [
    ["a frame of 20 MB", () => [`${20 * 1024 * 1024}\n`, Buffer.alloc(1024 * 1024)]],
    ["bytes that are no frame", () => ["GET / HTTP/1.1\r\nhost: x\r\n\r\n"]],
    ["noise", () => [randomBytes(4096)]],
    ["a length without end", () => ["1".repeat(64)]],
    ["a frame that is not JSON", () => ["5\nhello"]],
    ["an empty frame", () => ["0\n"]],
    ["JSON that is no message", () => [frame([1, 2, 3])]],
    ["null", () => [frame(null)]],
    ["a message of no known type", () => [frame({ type: "surprise" })]],
    ["a hello without its fields", () => [frame({ type: "hello", protocol: [1] })]],
    ["a hello with wrong fields", () => [frame({ ...helloOf(stage.newWorker()), pid: "one", tasks: {} })]],
    [
      "a launch before hello",
      () => [frame({ type: "launch", tasks: [{ taskId: "x", taskInfo: { task_id: { value: "x" } }, launchedAt: 1 }] })],
    ],
    [
      "a second hello",
      () => {
        const hello = helloOf(stage.newWorker());
        return [encodeFrame(hello, Buffer.from), encodeFrame(hello, Buffer.from)];
      },
    ],
  ];
  for (const [what, bytes] of breaches) {
    test(`${what} closes that connection`, async () => {
      const socket = await dial();
      for (const each of bytes()) socket.write(each);

      await closed(socket);

      await unharmed();
      socket.destroy();
    });
  }

  test("half a frame and silence, before and after hello, holds nothing up", async () => {
    const early = await dial();
    early.write("1000\n{");
    const late = await dial();
    late.write(encodeFrame(helloOf(stage.newWorker()), Buffer.from));
    late.write("16000000\n{");

    await unharmed();
    await closed(early);
    await unharmed();
    late.destroy();
    early.destroy();
  });

  test("a record with nonsense for a checkpoint harms no other task, and starts nothing", async () => {
    const worker = stage.newWorker();
    for (const data of [null, "x", { version: 1 }, { version: 1, phase: "running", stages: 7 }]) {
      const taskId = `b-${randomBytes(5).toString("hex")}`;
      worker.records.set(taskId, {
        taskId,
        taskInfo: { task_id: { value: taskId }, container: { type: "DOCKER", docker: { image: BUSYBOX_IMAGE } } } as never,
        launchedAt: Date.now(),
        lastStatus: { state: "TASK_RUNNING", at: Date.now() },
        checkpoint: { sequence: 3, data },
      });
    }
    await worker.connect();

    for (const taskId of worker.records.keys()) assert.match((await worker.update(taskId, "TASK_FAILED")).message ?? "", /vanished/);
    await waitFor(() => worker.exitCode === 0);
    await worker.disconnect();
    await unharmed();
  });

  test("a peer that never reads is given up, and the next ones cost no more memory than the first", async () => {
    const residents: number[] = [];
    for (let round = 1; round <= 6; round++) {
      await deafPeer();
      await waitFor(() => stage.log().split("does not read what it is sent").length > round, {
        what: "the end of a peer that does not read",
      });
      residents.push(residentMb());
    }

    await unharmed();
    const [, , third = 0, ...later] = residents;
    // The collector takes its time; what counts is that it does not go on growing.
    assert.ok(Math.max(...later) < third + 80, `resident memory after each: ${residents.map(Math.round).join(", ")} MB`);
  });

  /** Asks and asks, and reads no answer. */
  async function deafPeer(): Promise<void> {
    const socket = await dial();
    socket.pause();
    socket.write(encodeFrame(helloOf(stage.newWorker()), Buffer.from));
    const data = Buffer.from(JSON.stringify({ berth: "ping", id: "i".repeat(250) })).toString("base64");
    const batch = Buffer.concat(Array.from({ length: 2000 }, () => encodeFrame({ type: "message", data }, Buffer.from)));
    for (let i = 0; i < 60 && !socket.destroyed; i++) {
      if (!socket.write(batch)) await waitFor(() => socket.destroyed || !socket.writableNeedDrain, { deadline: 60_000 });
    }
    socket.destroy();
  }

  test("five hundred peers that come and go leave nothing behind", async () => {
    const descriptors = (): number => readdirSync(`/proc/${stage.supervisor.pid}/fd`).length;
    const before = descriptors();
    for (let i = 0; i < 500; i++) {
      const socket = await dial();
      if (i % 3 === 0) socket.write("7\n{");
      if (i % 3 === 1) socket.write(encodeFrame(helloOf(stage.newWorker()), Buffer.from));
      socket.destroy();
    }

    await waitFor(() => descriptors() <= before + 3, { what: "the descriptors to be closed" });
    await unharmed();
  });
});

describe("on the admin socket", () => {
  const cases: Array<[what: string, request: string, status: number]> = [
    ["an unknown path", "GET /v2/nothing HTTP/1.1", 404],
    ["a path that is no URL", "GET // HTTP/1.1", 400],
    ["broken percent-encoding", "GET /v1/tasks/%E0%A4%A HTTP/1.1", 400],
    ["an unknown method", "DELETE /v1/tasks HTTP/1.1", 405],
    ["a task that is not there", "GET /v1/tasks/nobody HTTP/1.1", 404],
    ["events since no time", "GET /v1/events?since=yesterday HTTP/1.1", 400],
  ];
  for (const [what, request, status] of cases) {
    test(`${what} is answered with ${status} and words`, async () => {
      const answer = await raw(`${request}\r\nhost: x\r\nconnection: close\r\n\r\n`);

      assert.equal(answer.status, status, answer.body);
      assert.equal(typeof (JSON.parse(answer.body) as { error: string }).error, "string");
      await unharmed();
    });
  }

  const bodies: Array<[what: string, body: string, status: number]> = [
    ["a body that is not JSON", "{", 400],
    ["a body that is null", "null", 400],
    ["a negative grace period", '{"gracePeriodMs":-1}', 400],
    ["a grace period in words", '{"gracePeriodMs":"soon"}', 400],
  ];
  for (const [what, body, status] of bodies) {
    test(`${what} is answered with ${status}, and kills nothing`, async () => {
      const head = `POST /v1/tasks/${bystandersTask}/kill HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: ${body.length}\r\n\r\n`;

      assert.equal((await raw(head + body)).status, status);
      await unharmed();
    });
  }

  test("a body of 20 MB is refused", async () => {
    const size = 20 * 1024 * 1024;
    const answer = await raw(`POST /v1/plan HTTP/1.1\r\nhost: x\r\ncontent-length: ${size}\r\n\r\n`, Buffer.alloc(size, 0x20));

    assert.equal(answer.status, 413, answer.body);
    await unharmed();
  });

  test("a client that sends its request byte by byte, and one that reads nothing, hold nobody up", async () => {
    const slow = await dial(adminPath());
    slow.write("GET /v1/tasks HT");
    const deaf = await dial(adminPath());
    deaf.pause();
    deaf.write("GET /v1/events?follow=true HTTP/1.1\r\nhost: x\r\n\r\n");

    for (let i = 0; i < 20; i++) await stage.supervisor.admin.call("GET", "/healthz");

    await unharmed();
    slow.destroy();
    deaf.destroy();
  });

  test("bytes that are no HTTP", async () => {
    const socket = await dial(adminPath());
    socket.write(randomBytes(512));

    await closed(socket);
    socket.destroy();
    await unharmed();
  });
});

function adminPath(): string {
  return join(stage.folder.path, "admin.sock");
}

async function raw(head: string, body?: Uint8Array): Promise<{ status: number; body: string }> {
  const socket = await dial(adminPath());
  let text = "";
  socket.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  socket.write(head);
  if (body !== undefined) socket.write(body);
  await waitFor(() => socket.readableEnded || socket.closed || (body !== undefined && text.includes("}")), { what: "an answer" });
  socket.destroy();
  const [headers = "", ...rest] = text.split("\r\n\r\n");
  const content = rest.join("\r\n\r\n");
  return { status: Number(headers.split(" ")[1]), body: content.slice(Math.max(0, content.indexOf("{")), content.lastIndexOf("}") + 1) };
}
