import { globSync } from "node:fs";
import { projectRoot } from "./node-path.mjs";
import { run } from "./run.ts";

/**
 * `npm run typecheck`: the whole workspace by the root's tsconfig.json, then every folder that has a tsconfig.json of its own
 * because it must also compile without what Node offers (the worker's core).
 */
const alone = globSync("{apps,libs}/**/tsconfig.json", { cwd: projectRoot, exclude: (path) => path.includes("node_modules") });
let failed = 0;
for (const project of ["tsconfig.json", ...alone.sort()]) {
  if ((await run("tsc", ["-p", project, "--pretty", "false"])) === 0) continue;
  console.error(`${project}: type errors, see above`);
  failed += 1;
}
process.exitCode = failed === 0 ? 0 : 1;
