import { copyFile, mkdir, rename, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { buildLeanWorker, leanWorkerObstacle } from "./build/lean-worker.ts";
import { projectRoot } from "./node-path.mjs";

/** `npm run build:worker [folder]`: the worker for QuickJS-ng, put into the installation in dist/ by default. */
const obstacle = leanWorkerObstacle();
if (obstacle !== undefined) {
  console.error(`the lean worker is left out: ${obstacle}; workers run on Node`);
} else {
  const { worker } = await buildLeanWorker();
  const target = join(resolve(projectRoot, process.argv[2] ?? "dist"), "worker/berth-worker-lean");
  await mkdir(dirname(target), { recursive: true });
  // Never written in place: workers of running tasks are this file.
  await copyFile(worker, `${target}.new`);
  await rename(`${target}.new`, target);
  console.log(`${((await stat(target)).size / 1024).toFixed(1).padStart(8)} KiB  ${target}`);
}
