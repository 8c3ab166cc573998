import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** The Docker engine that the demo uses, with its image in it. */
export interface DemoEngine {
  /** For DOCKER_HOST. */
  host: string;
  /** Where it comes from, for the reader. */
  origin: string;
  stop(): Promise<void>;
}

const DEFAULT_SOCKET = "/var/run/docker.sock";
const INSTALL = fileURLToPath(new URL("../install-test-servers", import.meta.url));

/**
 * The host's own Docker engine where one answers; else, on Debian as root, a private one that is installed if it is missing and
 * stopped at the end. Returns the reason where there is none to be had.
 */
export async function findEngine(say: (line: string) => void): Promise<DemoEngine | string> {
  const host = process.env.DOCKER_HOST ?? `unix://${DEFAULT_SOCKET}`;
  const problem = host.startsWith("unix://") ? await problemAt(host.slice("unix://".length)) : undefined;
  if (problem === undefined) return await useHostEngine(host, say);
  if (process.env.DOCKER_HOST !== undefined) return `nothing answers at DOCKER_HOST=${host} (${problem})`;
  if (problem === "EACCES") return `this user may not use the Docker engine at ${host}; it needs to be in the group docker, or root`;
  if (process.getuid?.() !== 0 || !existsSync("/etc/debian_version")) {
    return "no Docker engine answers on this host, and installing one needs Debian and root";
  }
  say("No Docker engine answers on this host: using a private one for the demo (Debian's docker.io; installed now if it is missing).");
  try {
    await installPackages();
    const { startDockerd } = await import("@berth/test-harness");
    const engine = await startDockerd();
    return { host: engine.host, origin: "a private Docker engine, stopped at the end", stop: () => engine.stop() };
  } catch (error) {
    // No network to install it from, or a container that may not run one: the command task needs none.
    return `no Docker engine answers on this host, and none can be started: ${error instanceof Error ? error.message.trim() : error}`;
  }
}

async function useHostEngine(host: string, say: (line: string) => void): Promise<DemoEngine | string> {
  const { importBusybox } = await import("@berth/test-harness");
  try {
    if (!existsSync("/bin/busybox") && process.getuid?.() === 0) await installPackages();
    await importBusybox(host);
  } catch (error) {
    return `the demo's image could not be made from busybox-static (${error instanceof Error ? error.message : error})`;
  }
  say(`Using the Docker engine at ${host}.`);
  return { host, origin: "this host's Docker engine", stop: async () => {} };
}

async function installPackages(): Promise<void> {
  const { stdout, stderr } = await promisify(execFile)(INSTALL, ["engine"]);
  process.stdout.write(stdout + stderr);
}

/** What stands between us and a socket: a code like ENOENT, or nothing. */
function problemAt(socketPath: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const probe = connect(socketPath);
    probe.once("connect", () => {
      probe.destroy();
      resolve(undefined);
    });
    probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}
