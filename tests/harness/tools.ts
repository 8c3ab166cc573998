import { execFile } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Runs a short command and returns its stdout; throws with its stderr when it fails. */
export async function command(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(program, args, { maxBuffer: 16 * 1024 * 1024 });
  return stdout;
}

/** Where scripts/install-test-servers puts the servers that are built from source. */
export const BUILT_SERVERS = fileURLToPath(new URL("../../.cache/servers/", import.meta.url));

export type BuiltServer = "vaultdev" | "sidecar" | "consul";

/** The path of a server that is built from source. Throws with what to do when it was not built yet. */
export function builtServer(name: BuiltServer): string {
  const path = join(BUILT_SERVERS, name);
  if (!executable(path)) throw new Error(`the test server ${name} is not built yet: run scripts/install-test-servers ${name}`);
  return path;
}

/**
 * For a test's `skip` option: the reason to leave it out on a machine without Go, where the server could not be built. In CI
 * nothing is left out: there the test fails.
 */
export function skipWithout(name: BuiltServer): string | false {
  if (process.env.CI === "true" || executable(join(BUILT_SERVERS, name))) return false;
  return `the test server ${name} is not built`;
}

/** The path of a server that Debian brings; some live in sbin, which a user's PATH may lack. */
export function installedServer(name: string): string {
  for (const folder of [...(process.env.PATH ?? "").split(":"), "/usr/sbin", "/sbin", "/usr/local/sbin"]) {
    const path = join(folder, name);
    if (folder !== "" && executable(path)) return path;
  }
  throw new Error(`the test server ${name} is not installed: run scripts/install-test-servers`);
}

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
