import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { tempDir, waitFor } from "@berth/test-harness";
import { endLeftovers, findLeftovers } from "./leftovers.ts";

const REPORT = new URL("./report.ts", import.meta.url).href;

/** Runs one test file under our report, in a process of its own (a test runner inside a test file runs nothing). */
async function reportOf(source: string): Promise<{ output: string; tally: unknown }> {
  await using folder = await tempDir("report");
  const file = join(folder.path, "sample.test.mjs");
  await writeFile(file, source);
  const script = `import { run } from "node:test";
    import { report } from ${JSON.stringify(REPORT)};
    const tally = { passed: 0, failed: 0, skipped: 0 };
    await report(run({ files: [${JSON.stringify(file)}] }), tally);
    console.log("TALLY " + JSON.stringify(tally));`;
  const runner = join(folder.path, "runner.mjs");
  await writeFile(runner, script);
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const { stdout } = await promisify(execFile)(process.execPath, [runner], { env });
  const [output = "", tally = ""] = stdout.split("TALLY ");
  return { output, tally: JSON.parse(tally) };
}

test("counts tests, not suites, and tells each failure once with its error and what the file printed", async () => {
  const { output, tally } = await reportOf(`
    import { describe, it, test } from "node:test";
    import assert from "node:assert";
    test("fine", () => {});
    test("left out", { skip: "no server" }, () => {});
    describe("suite", () => {
      it("inner", () => { console.log("a clue"); assert.equal(1, 2); });
      it("chained", () => { throw new Error("boom", { cause: new Error("the reason") }); });
    });`);

  assert.deepEqual(tally, { passed: 1, failed: 2, skipped: 1 });
  assert.match(output, /✖ .*sample\.test\.mjs \(1 passed, 2 failed/);
  assert.match(output, /skipped: left out: no server/);
  assert.match(output, /✖ inner\n.*1 == 2/s);
  assert.match(output, /boom[\s\S]*caused by Error: the reason/);
  assert.match(output, /a clue/);
});

test("a file that ends early, or that does not load, has failed", async () => {
  const early = await reportOf('import { test } from "node:test"; test("one", () => process.exit(3));');
  const broken = await reportOf('import "./nowhere.mjs";');

  assert.deepEqual(early.tally, { passed: 0, failed: 1, skipped: 0 });
  assert.match(early.output, /exited with 3/);
  assert.deepEqual(broken.tally, { passed: 0, failed: 1, skipped: 0 });
  assert.match(broken.output, /ERR_MODULE_NOT_FOUND/);
});

test("finds and ends a process that a run left behind", async () => {
  await using folder = await tempDir("left");
  const child = spawn("sleep", ["600"], { env: { PATH: process.env.PATH, BERTH_TEST_RUN: folder.path }, stdio: "ignore" });
  await waitFor(() => child.pid);

  const found = await findLeftovers(folder.path, 0);
  endLeftovers(found);
  const [, signal] = (await once(child, "exit")) as [number | null, string | null];

  assert.deepEqual(
    found.map(({ pid }) => pid),
    [child.pid],
  );
  assert.equal(signal, "SIGKILL");
});
