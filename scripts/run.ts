import { spawn } from "node:child_process";
import { join } from "node:path";
import { projectRoot } from "./node-path.mjs";

/** Runs one of the project's installed tools with our output and returns its exit code (or 1 where a signal ended it). */
export function run(tool: "biome" | "tsc" | "nx", args: string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(join(projectRoot, "node_modules/.bin", tool), args, { cwd: projectRoot, stdio: ["ignore", "inherit", "inherit"] });
    child.on("error", reject);
    child.on("exit", (code) => resolve(code ?? 1));
  });
}
