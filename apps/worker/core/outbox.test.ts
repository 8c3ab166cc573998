/** The outbox against a real HTTP server that answers as a test says. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import type { StatusUpdate } from "@berth/mesos";
import { waitFor } from "@berth/test-harness";
import { nodeHost } from "../host-node/host.ts";
import type { AgentEndpoint } from "./agent-endpoint.ts";
import { CallConnection } from "./call-connection.ts";
import { Outbox } from "./outbox.ts";

interface Scene extends AsyncDisposable {
  outbox: Outbox;
  /** Ids of the updates that were taken with 202, in order; and the reduced ones' ids behind them with a "-". */
  taken: string[];
  told: string[];
  may: boolean;
}

/** `answers`: status and text for each call in turn, 202 when they are used up; 0 breaks the connection. */
async function scene(answers: Array<[number, string]> = [], updateBufferSize = 1024): Promise<Scene> {
  const taken: string[] = [];
  const told: string[] = [];
  const server = createServer(async (request, response) => {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const [status, text] = answers.shift() ?? [202, ""];
    if (status === 0) return void request.socket.destroy();
    const call = JSON.parse(Buffer.concat(pieces).toString()) as { type: string; update?: { status: StatusUpdate } };
    const update = call.update?.status;
    if (status === 202) taken.push(update === undefined ? call.type : `${update.task_id.value}${update.message === undefined ? "-" : ""}`);
    response.writeHead(status, { "Content-Length": Buffer.byteLength(text) }).end(text);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const host = nodeHost();
  const endpoint: AgentEndpoint = {
    connect: (on, handlers) => on.connectTcp("127.0.0.1", port, handlers),
    name: "agent",
    path: "/",
    tls: false,
    authorization: undefined,
  };
  const calls = new CallConnection(host, endpoint);
  const result = { taken, told, may: true } as Scene;
  result.outbox = new Outbox(
    host,
    calls,
    { executorId: "e", frameworkId: "f", updateBufferSize },
    {
      mayCall: () => result.may,
      resubscribe: () => void told.push("resubscribe"),
      lost: () => void told.push("lost"),
      undeliverable: (status) => void told.push(`undeliverable ${status.task_id.value}`),
      log: () => {},
    },
  );
  result[Symbol.asyncDispose] = async () => {
    calls.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return result;
}

const update = (value: string): StatusUpdate => ({
  task_id: { value },
  state: "TASK_RUNNING",
  source: "SOURCE_EXECUTOR",
  uuid: value,
  executor_id: { value: "e" },
  timestamp: 1,
  message: "m",
});

test("updates arrive in order whatever the agent answers meanwhile", async () => {
  await using stage = await scene([
    [503, ""],
    [404, ""],
    [0, ""],
    [202, ""],
    [500, ""],
  ]);
  for (const id of ["1", "2", "3", "4"]) stage.outbox.add(update(id));

  await waitFor(() => stage.taken.length === 4);

  assert.deepEqual(stage.taken, ["1", "2", "3", "4"]);
  assert.equal(stage.outbox.empty, false);
  for (const id of ["1", "2", "3", "4"]) assert.equal(stage.outbox.acknowledged(id)?.uuid, id);
  assert.equal(stage.outbox.acknowledged("1"), undefined);
  assert.ok(stage.outbox.empty);
});

test("one that is refused goes once more with what is required, then holds up nothing", async () => {
  await using stage = await scene([
    [400, "no"],
    [400, "no"],
    [400, "no"],
  ]);
  for (const id of ["1", "2", "3"]) stage.outbox.add(update(id));

  await waitFor(() => stage.taken.length === 2);

  assert.deepEqual(stage.taken, ["2-", "3"]);
  assert.deepEqual(stage.told, ["undeliverable 1"]);
});

test("401 and an unknown executor are the end, a 403 asks to subscribe again", async () => {
  await using stage = await scene([
    [403, "Executor is not subscribed"],
    [202, ""],
    [400, "Executor cannot be found"],
  ]);
  stage.outbox.add(update("1"));
  await waitFor(() => stage.taken.length === 1);
  stage.outbox.add(update("2"));
  await waitFor(() => stage.told.length === 2);

  assert.deepEqual(stage.told, ["resubscribe", "lost"]);
});

test("a full buffer: repeated states make room, the oldest first; no state is lost, a terminal one never", async () => {
  await using stage = await scene([], 3);
  stage.may = false;
  const of = (uuid: string, state: StatusUpdate["state"], taskId = "t"): StatusUpdate => ({ ...update(taskId), uuid, state });
  for (const status of [of("1", "TASK_STARTING"), of("2", "TASK_RUNNING"), of("3", "TASK_RUNNING"), of("4", "TASK_RUNNING")])
    stage.outbox.add(status);
  const uuids = (): string[] => stage.outbox.unacknowledged().map(({ uuid }) => uuid);
  assert.deepEqual(uuids(), ["1", "3", "4"]);

  // What the agent has goes last.
  stage.outbox.subscribed(stage.outbox.unacknowledged().slice(0, 2));
  for (const status of [of("5", "TASK_RUNNING"), of("6", "TASK_RUNNING", "u")]) stage.outbox.add(status);
  assert.deepEqual(uuids(), ["1", "5", "6"]);
  stage.outbox.add(of("7", "TASK_KILLED"));
  stage.outbox.add(of("8", "TASK_FINISHED", "u"));
  assert.deepEqual(uuids(), ["1", "5", "6", "7", "8"]);
});

test("what a SUBSCRIBE has listed is not sent again, what came later is; messages follow updates", async () => {
  await using stage = await scene();
  stage.may = false;
  stage.outbox.add(update("1"));
  stage.outbox.addExtra({ type: "MESSAGE", message: { data: "" } });
  const listed = stage.outbox.unacknowledged();
  stage.outbox.add(update("2"));
  stage.may = true;
  stage.outbox.subscribed(listed);

  await waitFor(() => stage.taken.length === 2);

  assert.deepEqual(stage.taken, ["2", "MESSAGE"]);
});

test("a SUBSCRIBE that the agent could not read lists the required fields from then on", async () => {
  await using stage = await scene();
  stage.may = false;
  stage.outbox.add(update("1"));

  assert.deepEqual(
    stage.outbox.unacknowledged(true).map(({ uuid, message }) => [uuid, message]),
    [["1", undefined]],
  );
});
