import { spawn, spawnSync } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { run as runTests } from "node:test";
import { startDockerd, tempDir } from "@berth/test-harness";
import { projectRoot } from "./node-path.mjs";
import { endLeftovers, findLeftovers } from "./test/leftovers.ts";
import { report, type Tally } from "./test/report.ts";

/**
 * `npm test [pattern...]`: lint, type check, then every *.test.ts against real servers, which it installs where they are missing,
 * and one Docker engine that is started for the run. With patterns (parts of a path) only the test files that match, without
 * lint and type check. Closes with `N passed, N failed[, N skipped]` and fails also when the run leaves a process or a mount behind.
 */
const patterns = process.argv.slice(2);
const files = globSync("{libs,apps,tests,scripts}/**/*.test.ts", {
  cwd: projectRoot,
  exclude: (path) => /(^|\/)(node_modules|dist)$/.test(path),
})
  .filter((file) => patterns.length === 0 || patterns.some((pattern) => file.includes(pattern.replace(/^\.?\//, ""))))
  .sort();
/** More failures than this are no matter of a busy machine. */
const MAX_REPEATED = 5;
const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
const interrupted = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => interrupted.abort());

if (files.length === 0) {
  console.error(`no test file matches ${patterns.join(" ")}`);
  process.exit(1);
}
if (patterns.length === 0) {
  for (const check of ["lint", "typecheck"]) await runCheck(check);
}
/** Lint and type check are not repeated. */
const failedChecks = tally.failed;
await runFiles();
if (interrupted.signal.aborted) console.log("\ninterrupted: not every test has run");
console.log(`\n${tally.passed} passed, ${tally.failed} failed${tally.skipped > 0 ? `, ${tally.skipped} skipped` : ""}`);
process.exit(interrupted.signal.aborted ? 130 : tally.failed === 0 ? 0 : 1);

/** Lint and type check count as one test each. */
async function runCheck(name: string): Promise<void> {
  const child = spawn(process.execPath, [join(projectRoot, `scripts/${name}.ts`)], { cwd: projectRoot, stdio: "inherit" });
  const passed = (await new Promise((resolve) => child.on("exit", resolve))) === 0;
  tally[passed ? "passed" : "failed"] += 1;
  console.log(`${passed ? "✔" : "✖"} ${name}`);
}

async function runFiles(): Promise<void> {
  const needed = neededServers();
  if (needed.length > 0) install(needed);
  // Whatever the tests start inherits both: the folder for their files, and a mark by which a process that stays is found.
  await using folder = await tempDir("run");
  process.env.TMPDIR = folder.path;
  process.env.BERTH_TEST_RUN = folder.path;
  // A reporter's output for a test's own child processes would mix with ours.
  delete process.env.NODE_TEST_CONTEXT;
  try {
    const engine = needed.includes("packages") && !process.env.BERTH_TEST_DOCKER_HOST ? await startDockerd() : undefined;
    try {
      if (engine !== undefined) process.env.BERTH_TEST_DOCKER_HOST = engine.host;
      const failed = await runOnce(
        files.map((file) => join(projectRoot, file)),
        2,
        tally,
      );
      if (failed.length > 0 && failed.length <= MAX_REPEATED && !interrupted.signal.aborted) await repeatAlone(failed);
    } finally {
      await engine?.stop();
    }
  } finally {
    const leftovers = await findLeftovers(folder.path);
    for (const leftover of leftovers) console.log(`✖ left behind by the run: ${leftover.description}`);
    if (!interrupted.signal.aborted) tally[leftovers.length === 0 ? "passed" : "failed"] += 1;
    endLeftovers(leftovers);
  }
}

async function runOnce(paths: string[], concurrency: number, into: Tally): Promise<string[]> {
  return await report(runTests({ files: paths, concurrency, signal: interrupted.signal, timeout: 600_000 }), into);
}

/**
 * Files that failed beside others run once more, alone: on a busy machine a deadline may be missed that holds otherwise. What
 * passes then counts as passed and is named as unsteady; what fails again has failed.
 */
async function repeatAlone(failed: string[]): Promise<void> {
  console.log(`\nonce more, alone: ${failed.length} of the files`);
  const again: Tally = { passed: 0, failed: 0, skipped: 0 };
  const stillFailed = await runOnce(failed, 1, again);
  const steady = failed.filter((file) => !stillFailed.includes(file));
  for (const file of steady) console.log(`  unsteady: ${file.slice(projectRoot.length + 1)} failed beside others and passed alone`);
  // What passed both times is counted once already.
  tally.passed += Math.max(0, tally.failed - failedChecks - again.failed);
  tally.failed = failedChecks + again.failed;
}

/** A run of some files installs and builds only what they name; the whole run needs everything. */
function neededServers(): string[] {
  const text = files.map((file) => readFileSync(join(projectRoot, file), "utf8")).join("\n");
  const uses = (pattern: RegExp): boolean => patterns.length === 0 || pattern.test(text);
  return [
    ...(uses(/test-harness|tests\/harness|harness\//) ? ["packages"] : []),
    ...(uses(/startVault/) ? ["vaultdev"] : []),
    ...(uses(/startSidecar/) ? ["sidecar"] : []),
    ...(uses(/startConsul/) ? ["consul"] : []),
    ...(uses(/vaas-contract/) ? ["vaas"] : []),
  ];
}

function install(servers: string[]): void {
  const { status } = spawnSync("sh", [join(projectRoot, "scripts/install-test-servers"), ...servers], { stdio: "inherit" });
  if (status === 0) return;
  console.error("the test servers could not be installed, see above");
  process.exit(1);
}
