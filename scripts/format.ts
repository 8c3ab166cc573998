import { spawnSync } from "node:child_process";
import { declareDependencies } from "./boundaries/mend.ts";
import { projectRoot } from "./node-path.mjs";
import { run } from "./run.ts";

/**
 * `npm run format [path...]`: rewrites what biome can mend; without paths also the workspace dependencies that the package.json
 * files declare, and the lock file with them.
 */
const paths = process.argv.slice(2);
if (paths.length === 0) {
  const changed = declareDependencies(projectRoot);
  for (const file of changed) console.log(`${file}: dependencies brought up to date`);
  // npm also adds each platform's optional package that the lock file lacks and its registry has. The lock file names all of them, so
  // that this changes nothing by itself and asks no registry.
  spawnSync("npm", ["install", "--package-lock-only", "--no-audit", "--no-fund"], {
    cwd: projectRoot,
    stdio: ["ignore", "ignore", "inherit"],
  });
}
process.exitCode = await run("biome", ["check", "--write", ...(paths.length > 0 ? paths : ["."])]);
