import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { tempDir } from "@berth/test-harness";
import { sourceOf } from "./task-logs.ts";

test("a container's output is read from its driver's file where there is one, else from dockerd", async () => {
  await using root = await tempDir("root");
  const file = join(root.path, "containers/here/local-logs/container.log");
  mkdirSync(join(file, ".."), { recursive: true });
  writeFileSync(file, "");
  const of = (id: string, logDriver: string, logPath = "") => sourceOf({ id, logDriver, logPath, tty: false }, async () => root.path);

  assert.equal(await of("here", "none"), undefined);
  assert.deepEqual(await of("here", "json-file", "/x.log"), { kind: "json-file", path: "/x.log", containerId: "here", tty: false });
  assert.deepEqual(await of("here", "local"), { kind: "local-file", path: file, containerId: "here", tty: false });
  assert.deepEqual(await of("elsewhere", "local"), { kind: "api", containerId: "elsewhere", tty: false });
  assert.deepEqual(await of("here", "journald"), { kind: "api", containerId: "here", tty: false });
});
