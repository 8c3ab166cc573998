import assert from "node:assert/strict";
import { createServer, type ServerResponse } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { tempDir } from "@berth/test-harness";
import { ApiSource } from "./api-source.ts";
import { LogRelay } from "./relay.ts";

interface Engine extends AsyncDisposable {
  socketPath: string;
}

/** What answers Docker's logs call as `logs` says: a dockerd with so much to send, or one that stops, is not to be had in a test's time. */
async function engine(folder: string, logs: (response: ServerResponse, follow: boolean) => void): Promise<Engine> {
  const socketPath = join(folder, "engine.sock");
  const server = createServer((request, response) => {
    response.writeHead(200);
    response.flushHeaders();
    logs(response, request.url?.includes("follow=1") === true);
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  return {
    socketPath,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function frame(text: string): Buffer {
  const data = Buffer.from(`2026-11-21T07:00:47.123456789Z ${text}\n`);
  const head = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]);
  head.writeUInt32BE(data.length, 4);
  return Buffer.concat([head, data]);
}

test("what a container has left at its end is received no faster than it is read", async () => {
  await using folder = await tempDir("api");
  const chunk = Buffer.concat(Array.from({ length: 1_000 }, () => frame("x".repeat(1_000))));
  const chunks = 64;
  let sent = 0;
  await using server = await engine(folder.path, (response, follow) => {
    if (follow) return;
    const more = (): void => {
      while (sent < chunks) {
        sent += 1;
        if (!response.write(chunk)) return void response.once("drain", more);
      }
      response.end();
    };
    more();
  });
  const source = new ApiSource({ docker: { url: "", socketPath: server.socketPath }, containerId: "c", tty: false, maxLineBytes: 4096 });
  const { signal } = new AbortController();
  await source.open();
  let lines = 0;

  await source.finish(signal);
  for (let turn = 0; turn < 1_000; turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(sent < chunks / 2, `${sent} of ${chunks} MB were taken before any was read`);
  do {
    await source.finish(signal);
    while (source.read(() => lines++));
  } while (source.incomplete);
  source.close();

  assert.equal(lines, chunks * 1_000);
});

test("a stream that breaks off before the end is an error, and nobody waits for the rest", async () => {
  await using folder = await tempDir("api");
  await using server = await engine(folder.path, (response, follow) => {
    if (follow) return;
    response.write(frame("one"));
    setImmediate(() => response.destroy());
  });
  const source = new ApiSource({ docker: { url: "", socketPath: server.socketPath }, containerId: "c", tty: false, maxLineBytes: 4096 });
  await source.open();

  await assert.rejects(async () => {
    do {
      await source.finish(new AbortController().signal);
      while (source.read(() => {}));
    } while (source.incomplete);
  });
  source.close();
});

test("of a source that is closed nothing more is waited for", async () => {
  await using folder = await tempDir("api");
  await using server = await engine(folder.path, (response) => void response.write(frame("one")));
  const docker = { url: "", socketPath: server.socketPath };
  const source = new ApiSource({ docker, containerId: "c", tty: false, maxLineBytes: 4096, once: true });
  await source.open();
  assert.equal(source.incomplete, true);

  source.close();

  assert.equal(source.incomplete, false);
});

test("what dockerd did not send before a task's end is a gap", async () => {
  await using folder = await tempDir("api");
  await using server = await engine(folder.path, (response, follow) => void (follow || response.write(frame("one"))));
  const events = { positions: () => undefined, output: () => {}, problem: () => {}, log: () => {} };
  const relay = new LogRelay({ docker: { url: "", socketPath: server.socketPath } }, events);
  const sinks = [{ type: "file", path: join(folder.path, "out") } as const];
  relay.follow({ taskKey: "t", source: { kind: "api", containerId: "c" }, sinks, fields: {}, hostname: "h" });

  const stopped = await relay.stop({ taskKey: "t", drain: true, deadline: Date.now() + 1_000 });
  relay.close();

  assert.equal(stopped?.lines, 1);
  assert.equal(stopped?.gaps, 1);
});
