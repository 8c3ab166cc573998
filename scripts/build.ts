import { resolve } from "node:path";
import { build } from "./build/build.ts";
import { projectRoot } from "./node-path.mjs";

/** `npm run build [folder]`: an installation of Berth, in dist/ by default. Copy the folder to /usr/lib/berth, or run it where it is. */
const { folder, files, withoutLeanWorker } = await build(resolve(projectRoot, process.argv[2] ?? "dist"));
for (const [path, bytes] of files) if (!path.endsWith(".map")) console.log(`${(bytes / 1024).toFixed(1).padStart(8)} KiB  ${path}`);
if (withoutLeanWorker !== undefined) console.log(`without the lean worker, ${withoutLeanWorker}: workers run on Node`);
console.log(`built ${folder}`);
