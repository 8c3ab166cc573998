import { globSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { projectRoot } from "./node-path.mjs";
import { run } from "./run.ts";

/**
 * `npm run typecheck`: the whole workspace by the root's tsconfig.json, then every folder that has a tsconfig.json of its own
 * because it must also compile without what Node offers (the worker's core). `npm run typecheck libs/retry` looks at one package.
 */
const folders = process.argv.slice(2).map((folder) => folder.replace(/\/$/, ""));
const alone = globSync("{apps,libs}/**/tsconfig.json", { cwd: projectRoot, exclude: (path) => path.includes("node_modules") }).sort();
const projects =
  folders.length === 0
    ? ["tsconfig.json", ...alone]
    : folders.flatMap((folder) => [configOf(folder), ...alone.filter((path) => path.startsWith(`${folder}/`))]);
let failed = 0;
for (const project of projects) {
  if ((await run("tsc", ["-p", project, "--pretty", "false"])) === 0) continue;
  console.error(`${project}: type errors, see above`);
  failed += 1;
}
process.exitCode = failed === 0 ? 0 : 1;

/** A tsconfig.json for one package: the root's, with another "include". */
function configOf(folder: string): string {
  const home = join(projectRoot, ".cache/tsconfig", folder);
  mkdirSync(home, { recursive: true });
  const path = join(home, "tsconfig.json");
  const compilerOptions = { rootDir: projectRoot, types: ["node"], typeRoots: [join(projectRoot, "node_modules/@types")] };
  writeFileSync(
    path,
    JSON.stringify({ extends: join(projectRoot, "tsconfig.json"), compilerOptions, include: [join(projectRoot, folder)] }),
  );
  return path;
}
