import assert from "node:assert/strict";
import { once } from "node:events";
import { request, type Server } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { TaskFailure } from "@berth/mesos";
import { type TempDir, tempDir, waitFor } from "@berth/test-harness";
import { AdminError, createAdminServer } from "./http.ts";

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
let folder: TempDir;
let server: Server;
let ended = 0;

before(async () => {
  folder = await tempDir("h");
  const routes = {
    "GET /things/:name": ({ parameters }: { parameters: Record<string, string> }) => ({
      json: { name: parameters.name, secret: "hunter2" },
    }),
    "POST /things/:name": ({ body }: { body: unknown }) => ({ json: { body } }),
    "GET /text": () => ({ text: "hunter2 says hello", type: "text/plain" }),
    "GET /gone": () => {
      throw new AdminError(410, "hunter2 is gone");
    },
    "GET /refused": () => {
      throw new TaskFailure("no such task");
    },
    "GET /broken": () => {
      throw new Error("a fault");
    },
    "GET /stream": () => ({ lines: manyLines() }),
  };
  server = createAdminServer(routes, silent, (text) => text.replaceAll("hunter2", "***"));
  server.listen(join(folder.path, "a.sock"));
  await once(server, "listening");
});

after(async () => {
  server?.closeAllConnections();
  server?.close();
  await folder?.remove();
});

async function* manyLines(): AsyncGenerator<string> {
  try {
    for (let i = 0; i < 400; i++) yield "x".repeat(100_000);
  } finally {
    ended += 1;
  }
}

async function ask(method: string, path: string, body?: string): Promise<{ status: number | undefined; text: string }> {
  const sent = request({ socketPath: join(folder.path, "a.sock"), method, path }).end(body);
  const [response] = (await once(sent, "response")) as [import("node:http").IncomingMessage];
  let text = "";
  for await (const chunk of response) text += String(chunk);
  return { status: response.statusCode, text };
}

test("admin http: parameters are decoded, and everything that goes out is masked", async () => {
  assert.deepEqual(JSON.parse((await ask("GET", "/things/a%2Fb")).text), { name: "a/b", secret: "***" });
  assert.equal((await ask("GET", "/text")).text, "*** says hello");
  assert.deepEqual(await ask("GET", "/gone"), { status: 410, text: '{"error":"*** is gone"}' });
});

test("admin http: whose fault it was shows in the status", async () => {
  const statuses: Array<[string, string, number]> = [
    ["GET", "/nothing", 404],
    ["DELETE", "/text", 405],
    ["GET", "/refused", 422],
    ["GET", "/broken", 500],
  ];
  for (const [method, path, status] of statuses) assert.equal((await ask(method, path)).status, status, path);
  assert.equal((await ask("POST", "/things/x", "{")).status, 400);
  assert.deepEqual(JSON.parse((await ask("POST", "/things/x", "[1]")).text), { body: [1] });
});

test("admin http: a slow reader of a stream gets all of it, without a listener left over for each wait", async () => {
  const warnings: Error[] = [];
  const note = (warning: Error): void => void warnings.push(warning);
  process.on("warning", note);

  const { text } = await ask("GET", "/stream");

  await new Promise((resolve) => setImmediate(resolve));
  process.off("warning", note);
  assert.equal(text.length, 400 * 100_001);
  assert.deepEqual(warnings, []);
});

test("admin http: a reader that leaves ends the stream's source", async () => {
  const before = ended;
  const sent = request({ socketPath: join(folder.path, "a.sock"), path: "/stream" }).end();
  sent.on("error", () => {});
  const [response] = (await once(sent, "response")) as [import("node:http").IncomingMessage];
  await once(response, "readable");

  sent.destroy();

  await waitFor(() => ended > before);
});
