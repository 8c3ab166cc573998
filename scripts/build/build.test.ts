import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { bindUnix, tempDir } from "@berth/test-harness";
import { buildDaemon } from "./build.ts";

test("a built program starts its threads from its own folder", async () => {
  await using folder = await tempDir("build");
  await buildDaemon("scripts/build/fixtures/daemon.ts", folder.path);

  const { stdout } = await promisify(execFile)(process.execPath, [join(folder.path, "main.mjs")], { cwd: "/" });

  const answer = JSON.parse(stdout) as { threadId: number; platform: string };
  assert.equal(answer.platform, "dockerode");
  assert.notEqual(answer.threadId, 0);
  const files = (await readdir(folder.path)).filter((name) => !name.endsWith(".map")).sort();
  assert.deepEqual(files, ["echo.thread.mjs", "main.mjs", "package.json", "worker.js"]);
});

test("a built program has the binary that calls the C library beside it", async () => {
  await using folder = await tempDir("build");
  const path = join(folder.path, "log");
  await buildDaemon("scripts/build/fixtures/sender.ts", join(folder.path, "built"));
  const receiver = await bindUnix(path);

  const { stdout } = await promisify(execFile)(process.execPath, [join(folder.path, "built/main.mjs"), path], { cwd: "/" });

  assert.equal(stdout, "1\n");
  assert.equal(receiver.receive()?.toString(), "sent by a bundle");
  receiver.close();
});

test("a file that is loaded at run time and would be missing stops the build", async () => {
  await using folder = await tempDir("build");

  await assert.rejects(buildDaemon("scripts/build/fixtures/stray.ts", folder.path), /stray-target\.ts is loaded at run time/);
});
