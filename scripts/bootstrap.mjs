// The door of every npm script: plain JavaScript that runs on the system's Node (20 and newer) with nothing installed.
// It installs the dependencies when they are missing or older than package-lock.json, and goes on with the project's Node.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { findNode, NEEDED_NODE, projectRoot } from "./node-path.mjs";

/** @type {Record<string, string>} */
const COMMANDS = {
  start: "scripts/start.ts",
  test: "scripts/test.ts",
  bench: "scripts/bench.ts",
  typecheck: "scripts/typecheck.ts",
  lint: "scripts/lint.ts",
  format: "scripts/format.ts",
  build: "scripts/build.ts",
  "build:worker": "scripts/build-worker.ts",
};

const [command = "", ...args] = process.argv.slice(2);
const script = Object.hasOwn(COMMANDS, command) ? COMMANDS[command] : undefined;
if (script === undefined) fail(`usage: node scripts/bootstrap.mjs ${Object.keys(COMMANDS).join("|")} [argument...]`, 2);
installDependencies();
await goOn(script, args);

/**
 * Installs what package-lock.json says. Not `npm ci`: that refuses a lock file without the packages of other platforms, and npm
 * leaves those out where its registry does not offer them. `--no-save` keeps the lock file as it is.
 */
function installDependencies() {
  // A stamp rather than file times: a checkout sets those as it likes.
  const stamp = join(projectRoot, "node_modules/.installed");
  const wanted = createHash("sha256")
    .update(readFileSync(join(projectRoot, "package-lock.json")))
    .digest("hex");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  console.error("installing the dependencies (npm install)…");
  const { status } = spawnSync("npm", ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: projectRoot,
    stdio: ["ignore", 2, 2],
  });
  if (status !== 0) fail("npm install failed, see above");
  writeFileSync(stamp, wanted);
}

/**
 * Runs the script with the project's Node and ends as it ends.
 * @param {string} path
 * @param {string[]} rest
 */
async function goOn(path, rest) {
  const node = findNode();
  if (node === undefined) {
    fail(
      `Berth needs Node ${NEEDED_NODE}. npm installs one on linux x64 and arm64; on ${process.platform} ${process.arch} ` +
        `put Node ${NEEDED_NODE} or newer first in PATH (this is ${process.version}).`,
    );
  }
  if (!existsSync(join(projectRoot, path))) fail(`${path} is missing`);
  // What npm and the scripts start (tsc, biome, nx) finds the same Node.
  const PATH = `${join(projectRoot, "node_modules/.bin")}:${process.env.PATH ?? ""}`;
  const child = spawn(node, [join(projectRoot, path), ...rest], { cwd: projectRoot, stdio: "inherit", env: { ...process.env, PATH } });
  // A terminal's Ctrl-C reaches the child by itself; this one only waits. A plain kill is passed on.
  process.on("SIGINT", () => {});
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  child.on("error", (error) => fail(`${node} does not start: ${error.message}`));
  child.on("exit", (code, signal) => process.exit(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
}

/**
 * @param {string} message
 * @param {number} [code]
 * @returns {never}
 */
function fail(message, code = 1) {
  console.error(message);
  process.exit(code);
}
