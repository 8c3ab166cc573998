import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { pause } from "@berth/retry";
import { AdminClient } from "./admin-client.ts";
import { program } from "./programs.ts";

export interface LocalSupervisorOptions {
  /** Holds the sockets; made if missing. Its path must be short: a unix socket's path has at most 107 bytes. */
  directory: string;
  /** Settings for berthd, beside what this process has in its own environment. */
  environment?: Readonly<Record<string, string>>;
  /** File that takes berthd's log; absent: this process's stderr. */
  logFile?: string;
  /** The berthd to start; default: the one beside this program. */
  executable?: string;
  /** How long it may take to answer, milliseconds. */
  startTimeoutMs?: number;
}

/** Has a program end with the process that started it: in a session of its own no terminal's end would reach it. */
const SETPRIV = ["/usr/bin/setpriv", "/bin/setpriv"].find((path) => existsSync(path));

/** A berthd that belongs to this process: for `berth run` on a host without one, the demo, tests and benchmarks. */
export class LocalSupervisor {
  readonly socket: string;
  readonly admin: AdminClient;
  readonly #process: ChildProcess;
  /** Resolves when berthd has ended, by itself or not. */
  readonly exited: Promise<unknown>;

  private constructor(child: ChildProcess, socket: string, admin: AdminClient) {
    this.#process = child;
    this.exited = once(child, "exit");
    this.socket = socket;
    this.admin = admin;
  }

  /** Starts berthd and waits until it answers. Throws when it ends before that, or does not answer in time. */
  static async start(options: LocalSupervisorOptions): Promise<LocalSupervisor> {
    mkdirSync(options.directory, { recursive: true });
    const socket = join(options.directory, "berthd.sock");
    const log = options.logFile === undefined ? "inherit" : openSync(options.logFile, "a");
    const executable = options.executable ?? program("berthd");
    const [command = executable, ...args] = SETPRIV === undefined ? [executable] : [SETPRIV, "--pdeathsig", "TERM", "--", executable];
    const child = spawn(command, args, {
      // A terminal's Ctrl-C is meant for this process, which still needs berthd to end its task.
      detached: true,
      stdio: ["ignore", log, log],
      env: { ...process.env, ...options.environment, BERTH_SOCKET: socket },
    });
    const supervisor = new LocalSupervisor(child, socket, new AdminClient(join(options.directory, "admin.sock")));
    await supervisor.#untilReady(options.startTimeoutMs ?? 30_000, options.logFile);
    return supervisor;
  }

  get pid(): number {
    return this.#process.pid as number;
  }

  get running(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** How it ended, in words. */
  get ending(): string {
    return `berthd ended with ${this.#process.exitCode ?? this.#process.signalCode}`;
  }

  /** Ends it in order; tasks run on. */
  async stop(): Promise<void> {
    if (this.running) this.#process.kill("SIGTERM");
    await this.exited;
  }

  /** `kill -9`. */
  async kill(): Promise<void> {
    if (this.running) this.#process.kill("SIGKILL");
    await this.exited;
  }

  async #untilReady(timeoutMs: number, logFile: string | undefined): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      if (!this.running) throw new Error(`${this.ending} before it was ready${seeLog(logFile)}`);
      try {
        await this.admin.call("GET", "/healthz");
        return;
      } catch (error) {
        if (Date.now() > deadline) throw new Error(`berthd does not answer on its admin socket${seeLog(logFile)}`, { cause: error });
      }
      await pause(20);
    }
  }
}

function seeLog(logFile: string | undefined): string {
  return logFile === undefined ? "" : `; its log is ${logFile}`;
}
