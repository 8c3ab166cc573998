import { spawn } from "node:child_process";
import { existsSync, globSync } from "node:fs";
import { basename, join } from "node:path";
import { projectRoot } from "./node-path.mjs";

/**
 * `npm run bench -- <name> [argument...]`: runs bench/<name>.bench.ts, whose last line is one JSON object with `bench` and `ratio`
 * (ours divided by the reference measured in the same run; lower is better). Without a name it lists what there is.
 */
const [name, ...args] = process.argv.slice(2);
const file = join(projectRoot, `bench/${name}.bench.ts`);
if (name === undefined || !existsSync(file)) {
  const names = globSync("bench/*.bench.ts", { cwd: projectRoot }).map((path) => basename(path, ".bench.ts"));
  console.error(`usage: npm run bench -- <name>\nnames: ${names.sort().join(", ") || "none yet"}`);
  process.exit(2);
}
const child = spawn(process.execPath, ["--expose-gc", file, ...args], { cwd: projectRoot, stdio: "inherit" });
process.on("SIGINT", () => {});
process.on("SIGTERM", () => child.kill("SIGTERM"));
child.on("exit", (code) => process.exit(code ?? 1));
