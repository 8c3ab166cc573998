import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { type TempDir, tempDir } from "@berth/test-harness";
import { projectRoot } from "./node-path.mjs";

const run = promisify(execFile);
const START = [process.execPath, join(projectRoot, "scripts/start.ts"), "--once"];
/** What a root in an unprivileged container cannot do either: no bridge, no mounts, so no Docker engine. */
const CONFINED = ["setpriv", "--bounding-set", "-net_admin,-sys_admin", "--inh-caps", "-all"];

async function demo(command: readonly string[], environment: Record<string, string>): Promise<string> {
  await using folder: TempDir = await tempDir("demo");
  const [program = "", ...args] = command;
  // An engine that this run shares would be found.
  const { DOCKER_HOST: _, ...inherited } = process.env;
  const { stdout } = await run(program, args, { env: { ...inherited, TMPDIR: folder.path, ...environment } });
  assert.deepEqual(readdirSync(folder.path), []);
  return stdout;
}

function isCommandStoryAlone(output: string): void {
  assert.match(output, /^A command task.*TASK_FINISHED.*as expected$/ms);
  assert.doesNotMatch(output, /web server|NOT as expected/);
}

test("npm start where no Docker engine answers runs the command task alone and says what it skipped", async () => {
  const output = await demo(START, { DOCKER_HOST: "unix:///no/such/docker.sock" });

  assert.match(
    output,
    /^Skipping the three container tasks: nothing answers at DOCKER_HOST=unix:\/\/\/no\/such\/docker\.sock \(ENOENT\)\.$/m,
  );
  isCommandStoryAlone(output);
});

const unfit = process.getuid?.() !== 0 ? "needs root" : existsSync("/var/run/docker.sock") ? "this host has an engine" : false;
test("npm start where no engine can be started does, too", { skip: unfit }, async () => {
  const output = await demo([...CONFINED, ...START], {});

  assert.match(output, /^Skipping the three container tasks: no Docker engine answers on this host, and none can be started: /m);
  isCommandStoryAlone(output);
});
