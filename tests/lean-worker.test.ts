/** What the worker's tests ask of it on Node, asked of the worker on QuickJS-ng. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmod, cp, mkdir, symlink } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type TempDir, tempDir } from "@berth/test-harness";
import { buildLeanWorker, leanWorkerObstacle } from "../scripts/build/lean-worker.ts";
import { projectRoot } from "../scripts/node-path.mjs";

const SUITES: ReadonlyArray<[what: string, file: string, pattern?: string]> = [
  ["the session with the agent", "../apps/worker/tests/session.test.ts"],
  ["processes of command tasks", "../apps/worker/tests/children.test.ts"],
  ["trees of processes, and what outlives what", "./command-tasks.test.ts"],
  ["cgroups of tasks", "./command-tasks-cgroups.test.ts"],
  ["the way with a real supervisor", "./end-to-end.test.ts", "the worker|a command task"],
  ["what a command task is started with", "./command-tasks-environment.test.ts"],
];
const obstacle = leanWorkerObstacle();
// A skip is a line among hundreds; a machine without cargo must not look as if this had been tested.
if (obstacle !== undefined) console.log(`\nNOT TESTED: the lean worker, because ${obstacle}\n`);
let home: TempDir;

// As it is installed: the launcher takes the lean worker, and Node for an agent that wants TLS.
before(async () => {
  home = await tempDir("lw");
  if (obstacle !== undefined) return;
  await cp(join(projectRoot, "bin"), join(home.path, "bin"), { recursive: true });
  await mkdir(join(home.path, "worker"));
  await symlink((await buildLeanWorker({ quiet: true })).worker, join(home.path, "worker/berth-worker-lean"));
  await symlink(process.execPath, join(home.path, "node"));
  await symlink(join(projectRoot, "apps"), join(home.path, "apps"));
  // Some tests start it as another user.
  await chmod(home.path, 0o755);
});
after(() => home.remove());

for (const [what, file, pattern] of SUITES) {
  test(`the lean worker: ${what}`, { skip: obstacle ?? false }, async () => {
    const args = [
      "--test",
      ...(pattern === undefined ? [] : [`--test-name-pattern=${pattern}`]),
      fileURLToPath(new URL(file, import.meta.url)),
    ];
    // Without the variable by which the runner knows its own children: this one reports to us.
    const { NODE_TEST_CONTEXT: _, ...environment } = process.env;
    const child = spawn(process.execPath, args, {
      env: { ...environment, BERTH_TEST_WORKER: join(home.path, "bin/berth-worker") },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        output += text;
      });
    }

    const code = await new Promise((resolve) => child.on("close", resolve));

    assert.equal(code, 0, output);
    // A pattern that matches nothing would pass as well.
    assert.match(output, /^ℹ pass ([1-9]\d|[6-9])$/m);
  });
}
