// Where the project's own Node is. Plain JavaScript that any supported system Node can run before anything is installed;
// bin/launch.sh knows the same places.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The checkout's folder, without a trailing slash. */
export const projectRoot = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

/** The oldest Node that runs the project's TypeScript as it is. */
export const NEEDED_NODE = 24;

/**
 * The Node 24 that npm installed into the project; else the Node that runs this, when it is new enough; else undefined.
 * @returns {string | undefined}
 */
export function findNode() {
  for (const arch of ["x64", "arm64"]) {
    const path = join(projectRoot, `node_modules/node-linux-${arch}/bin/node`);
    if (existsSync(path)) return path;
  }
  return Number.parseInt(process.versions.node, 10) >= NEEDED_NODE ? process.execPath : undefined;
}
