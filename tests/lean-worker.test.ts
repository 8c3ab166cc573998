/** What the worker's tests ask of it on Node, asked of the worker on QuickJS-ng. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { buildLeanWorker, leanWorkerObstacle } from "../scripts/build/lean-worker.ts";

const SUITES: ReadonlyArray<[what: string, file: string, pattern?: string]> = [
  ["the session with the agent", "../apps/worker/tests/session.test.ts"],
  ["processes of command tasks", "../apps/worker/tests/children.test.ts"],
  ["the way with a real supervisor", "./end-to-end.test.ts", "the worker|a command task"],
];
const obstacle = leanWorkerObstacle();
// A skip is a line among hundreds; a machine without cargo must not look as if this had been tested.
if (obstacle !== undefined) console.log(`\nNOT TESTED: the lean worker, because ${obstacle}\n`);
let worker = "";

before(async () => {
  if (obstacle === undefined) ({ worker } = await buildLeanWorker({ quiet: true }));
});

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
      env: { ...environment, BERTH_TEST_WORKER: worker },
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
