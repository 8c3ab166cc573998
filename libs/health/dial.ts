import { readlink } from "node:fs/promises";
import { connect } from "node:net";
import { Duplex } from "node:stream";
import { Refused, Unable } from "./probe-error.ts";
import { spawnGroup } from "./process-group.ts";

/** A task's network namespace, as what a connection in it takes. */
export type Network = { kind: "own" } | { kind: "other"; path: string };

/**
 * Where a process has its network. With a namespace of its own (bridge, user-defined networks, none) a connection is made from
 * inside, so that also what listens on 127.0.0.1 there is reached and no filter for outside clients is met. Throws when the
 * process is gone.
 */
export async function networkOf(pid: number, procPath: string): Promise<Network> {
  const path = `${procPath}/${pid}/ns/net`;
  const [own, its] = await Promise.all([readlink("/proc/self/ns/net"), readlink(path)]);
  return own === its ? { kind: "own" } : { kind: "other", path };
}

/**
 * Node cannot enter a namespace: threads share one. A shell that speaks TCP can, for a fraction of what curl costs to start
 * (docs/health-checks.md has the figures). The bridge ends when its stdin does, so nothing is left when the supervisor is killed.
 */
const CONNECT = 'exec 3<>"/dev/tcp/$1/$2" || exit 7';
const BRIDGE = `${CONNECT}; cat <&3 & exec >&-; cat >&3; kill -9 $! 2>&-; exit 0`;
const CONNECT_FAILED = 7;

/** An open connection to a task. */
export interface Connection {
  stream: Duplex;
  /** Resolves when nothing can be said against the connection any more; rejects with why it never was one. */
  settled: Promise<void>;
}

/** Connects and hangs up. Rejects with {@link Refused} where nobody listens. `host` is an address, or a name to be looked up. */
export async function touch(network: Network, host: string, port: number, signal: AbortSignal): Promise<void> {
  if (network.kind === "own") {
    (await openHere(host, port, signal)).destroy();
    return;
  }
  const shell = startShell(network.path, CONNECT, { host, port, signal });
  shell.child.stdin?.end();
  await shell.settled;
}

/** Opens a connection; it ends with the signal. Behind a bridge a failure to connect shows only when the stream has ended. */
export async function open(network: Network, host: string, port: number, signal: AbortSignal): Promise<Connection> {
  if (network.kind === "own") return { stream: await openHere(host, port, signal), settled: Promise.resolve() };
  const { child, settled } = startShell(network.path, BRIDGE, { host, port, signal });
  if (child.stdin === null || child.stdout === null) throw new Unable("a pipe to the shell is missing");
  const stream = Duplex.from({ readable: child.stdout, writable: child.stdin });
  stream.on("error", () => {}); // Whoever reads it has listeners of its own; a late one must not end the daemon.
  return { stream, settled };
}

function openHere(host: string, port: number, signal: AbortSignal): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    socket.on("error", () => {});
    const end = (): void => void socket.destroy(signal.reason instanceof Error ? signal.reason : new Error("aborted"));
    signal.addEventListener("abort", end, { once: true });
    socket.once("close", () => signal.removeEventListener("abort", end));
    socket.once("error", (error: NodeJS.ErrnoException) =>
      reject(signal.aborted ? error : new Refused(`no connection to ${at(host, port)}: ${error.code ?? error.message}`)),
    );
    socket.once("connect", () => resolve(socket));
  });
}

interface Dialled {
  host: string;
  port: number;
  signal: AbortSignal;
}

function startShell(network: string, script: string, { host, port, signal }: Dialled) {
  // Its stdin is a socket, so a bash with nobody's SHLVL (systemd's) takes itself for rshd's and reads ~/.bashrc.
  const argv = ["nsenter", `--net=${network}`, "bash", "--norc", "--noprofile", "-c", script, "bash", host, String(port)];
  const { child, ended } = spawnGroup(argv, { stdio: ["pipe", "pipe", "pipe"], env: shellEnvironment() }, signal);
  let complaint = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    complaint = (complaint + text).slice(-1000);
  });
  for (const stream of [child.stdin, child.stdout, child.stderr]) stream?.on("error", () => {});
  const errorsRead = new Promise<void>((resolve) => child.stderr?.once("close", () => resolve()));

  async function settle(): Promise<void> {
    const code = await ended.catch((error: Error) => {
      throw new Unable(`a check in the task's network needs nsenter and bash on the host: ${error.message}`);
    });
    signal.throwIfAborted();
    if (code === 0) return;
    await errorsRead;
    if (code === CONNECT_FAILED) throw new Refused(`no connection to ${at(host, port)}: ${reason(complaint)}`);
    throw new Unable(`the task's network cannot be entered: ${reason(complaint)}`);
  }
  const settled = settle();
  settled.catch(() => {});
  return { child, settled };
}

/** Nothing of the daemon's own: it holds credentials, and a BASH_ENV would be run. */
function shellEnvironment(): Record<string, string> {
  return { PATH: `${process.env.PATH ?? ""}:/usr/local/bin:/usr/bin:/bin`, LC_ALL: "C" };
}

/** bash: line 1: connect: Connection refused */
function reason(complaint: string): string {
  const line = complaint.trim().split("\n")[0] ?? "";
  return line.slice(line.lastIndexOf(": ") + 1).trim() || "it failed";
}

function at(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
