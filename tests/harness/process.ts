import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { waitFor } from "./wait-for.ts";

export interface ProcessOptions {
  /** Shown in errors. */
  name: string;
  command: string;
  args?: readonly string[];
  /** Added to our own environment; undefined takes a variable out. */
  env?: Record<string, string | undefined>;
  cwd?: string;
  /** True when the server serves. Asked again and again until it is, or the process has ended. */
  ready: (output: () => string, pid: number) => boolean | Promise<boolean>;
  /** Sent first by `stop()`. */
  stopSignal?: NodeJS.Signals;
  /** Milliseconds between the stop signal and SIGKILL. */
  stopGrace?: number;
}

/** A server that runs as our child and dies with us, even when we are killed. */
export interface RunningProcess extends AsyncDisposable {
  pid: number;
  /** Everything that it wrote to stdout and stderr, the last megabyte. */
  output(): string;
  /** True until its end was seen. */
  running(): boolean;
  kill(signal: NodeJS.Signals): void;
  /** Resolves when the process has ended, with its exit code or 128 + n. */
  ended: Promise<number | null>;
  /** Asks it to end, insists after the grace, returns when it is gone. Safe to call twice. */
  stop(): Promise<void>;
}

const MAX_OUTPUT = 1024 * 1024;

/**
 * Starts a server and waits until it serves. The kernel ends it when this process dies (setpriv --pdeathsig), so that a test
 * file that is killed leaves no server.
 */
export async function startProcess(options: ProcessOptions): Promise<RunningProcess> {
  const { name, command, args = [], stopSignal = "SIGTERM", stopGrace = 5_000 } = options;
  const env = { ...process.env, ...options.env };
  const child = spawn("setpriv", ["--pdeathsig", stopSignal.replace(/^SIG/, ""), "--", command, ...args], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
    // A Ctrl-C in a terminal goes to the whole process group: servers are stopped by us, in order, not by the terminal.
    detached: true,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-MAX_OUTPUT);
    });
  }
  const ended = awaitEnd(child);
  const running = (): boolean => child.exitCode === null && child.signalCode === null;
  const stop = async (): Promise<void> => {
    if (!running()) return;
    child.kill(stopSignal);
    const insist = setTimeout(() => child.kill("SIGKILL"), stopGrace);
    await ended;
    clearTimeout(insist);
  };
  try {
    await waitFor(
      async () => {
        if (!running() || child.pid === undefined) return "ended";
        return (await options.ready(() => output, child.pid)) && "ready";
      },
      { what: `${name} to be ready`, deadline: 60_000 },
    );
  } catch (error) {
    await stop();
    throw new Error(`${name} does not become ready; its output:\n${output}`, { cause: error });
  }
  if (!running() || child.pid === undefined) throw new Error(`${name} (${command}) ended before it was ready; its output:\n${output}`);
  const { pid } = child;
  return { pid, output: () => output, running, kill: (signal) => void child.kill(signal), ended, stop, [Symbol.asyncDispose]: stop };
}

async function awaitEnd(child: ChildProcess): Promise<number | null> {
  const failed = once(child, "error").then(() => null);
  const exited = once(child, "exit").then(([code]) => code as number | null);
  return Promise.race([exited, failed]);
}
