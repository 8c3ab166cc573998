import { checkBoundaries } from "./boundaries/check.ts";
import { projectRoot } from "./node-path.mjs";
import { run } from "./run.ts";

/** `npm run lint`: format and lint rules (biome), then the boundaries between the workspace's packages. */
const biome = await run("biome", ["check", "--error-on-warnings", "."]);
const violations = checkBoundaries(projectRoot);
for (const violation of violations) console.error(violation);
if (violations.length > 0) console.error(`${violations.length} broken boundaries between packages`);
process.exitCode = biome === 0 && violations.length === 0 ? 0 : 1;
