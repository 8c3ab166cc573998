import { copyFile, mkdir, rename, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { buildLeanWorker, leanWorkerObstacle } from "./build/lean-worker.ts";
import { projectRoot } from "./node-path.mjs";

/**
 * `npm run build:worker [folder]`: the worker for QuickJS-ng, put into the installation in dist/ by default. With `--probe` it only
 * builds, and prints the path of the conformance tests' program; an empty line where it cannot be built.
 */
const [argument = "dist"] = process.argv.slice(2);
const obstacle = leanWorkerObstacle();
if (obstacle !== undefined) {
  console.error(`the lean worker is left out: ${obstacle}; workers run on Node`);
  if (argument === "--probe") console.log("");
} else if (argument === "--probe") {
  console.log((await buildLeanWorker({ quiet: true })).probe);
} else {
  const { worker } = await buildLeanWorker();
  const target = join(resolve(projectRoot, argument), "worker/berth-worker-lean");
  await mkdir(dirname(target), { recursive: true });
  // Never written in place: workers of running tasks are this file.
  await copyFile(worker, `${target}.new`);
  await rename(`${target}.new`, target);
  console.log(`${((await stat(target)).size / 1024).toFixed(1).padStart(8)} KiB  ${target}`);
}
