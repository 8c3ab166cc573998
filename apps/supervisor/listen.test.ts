import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { tempDir } from "@berth/test-harness";
import { berthGroupId, listen, socketSources } from "./listen.ts";

const paths = { workers: "/run/w.sock", admin: "/run/a.sock" };

async function close(server: Server): Promise<void> {
  server.close();
  await once(server, "close");
}

test("sockets: from systemd by name, by order without names, and at their paths otherwise", () => {
  const named = { LISTEN_PID: "7", LISTEN_FDS: "2", LISTEN_FDNAMES: "admin:workers" };
  assert.deepEqual(socketSources(named, paths, 7), { workers: { kind: "inherited", fd: 4 }, admin: { kind: "inherited", fd: 3 } });
  assert.deepEqual(socketSources({ LISTEN_PID: "7", LISTEN_FDS: "1" }, paths, 7), {
    workers: { kind: "inherited", fd: 3 },
    admin: { kind: "path", path: paths.admin },
  });
  // Meant for another process, which has handed its environment on.
  assert.equal(socketSources(named, paths, 8).workers.kind, "path");
});

test("listen: the file is for owner and group only; one that nobody serves any more is replaced, one that is served is not", async () => {
  await using folder = await tempDir("l");
  const path = join(folder.path, "deep/s.sock");
  const first = createServer();
  await listen(first, { kind: "path", path }, undefined);
  assert.equal(statSync(path).mode & 0o777, 0o660);

  await assert.rejects(listen(createServer(), { kind: "path", path }, undefined), /another supervisor already serves .*BERTH_SOCKET/);
  assert.equal(existsSync(path), true);

  await close(first);
  const stale = createServer();
  await listen(stale, { kind: "path", path }, undefined);
  await close(stale);
});

test("listen: what is no socket is never removed, and a path that is too long is called that", async () => {
  await using folder = await tempDir("l");
  const file = join(folder.path, "precious");
  writeFileSync(file, "data");

  await assert.rejects(listen(createServer(), { kind: "path", path: file }, undefined), /is no socket/);
  assert.equal(readFileSync(file, "utf8"), "data");
  await assert.rejects(listen(createServer(), { kind: "path", path: join(folder.path, "x".repeat(120)) }, undefined), /at most 107 bytes/);
});

test("group: the number of berth, or nothing", async () => {
  await using folder = await tempDir("l");
  const file = join(folder.path, "group");
  writeFileSync(file, "root:x:0:\nberthless:x:5:\nberth:x:412:alice\n");

  assert.equal(berthGroupId(file), 412);
  assert.equal(berthGroupId(join(folder.path, "none")), undefined);
});
