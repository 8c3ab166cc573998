import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export interface ProcessSpec {
  /** CommandInfo: a shell command line, or with `shell: false` a program and its argument vector (argv[0] included). */
  command: { shell?: boolean; value?: string; arguments?: readonly string[] };
  sandbox: string;
  environment: Record<string, string>;
  launcher: "linux" | "posix";
}

export interface ProcessEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/**
 * An executor's process, started as Mesos does: `/bin/sh -c <value>` leading a session of its own, the sandbox as working
 * directory, /dev/null as stdin, the sandbox's `stdout` and `stderr` as output, the given environment and nothing else.
 */
export class ExecutorProcess {
  readonly ended: Promise<ProcessEnd>;
  readonly #child: ChildProcess;
  readonly #spec: ProcessSpec;

  constructor(spec: ProcessSpec) {
    this.#spec = spec;
    const { shell = true, value = "", arguments: argv = [] } = spec.command;
    const stdout = openSync(join(spec.sandbox, "stdout"), "a");
    const stderr = openSync(join(spec.sandbox, "stderr"), "a");
    try {
      this.#child = spawn(shell ? "/bin/sh" : value, shell ? ["-c", value] : argv.slice(1), {
        cwd: spec.sandbox,
        env: spec.environment,
        detached: true,
        stdio: ["ignore", stdout, stderr],
        argv0: shell ? "sh" : (argv[0] ?? value),
      });
    } finally {
      closeSync(stdout);
      closeSync(stderr);
    }
    this.ended = new Promise((resolve) => {
      this.#child.once("exit", (code, signal) => resolve({ code, signal }));
      // A program that cannot be started: the launcher of a real agent exits with 1.
      this.#child.once("error", () => resolve({ code: 1, signal: null }));
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /**
   * SIGKILL to the whole process tree, as the agent's destruction of a container: again and again until nothing is left, because
   * a process may fork while the table is read. Safe after the end of the executor itself.
   */
  async destroy(): Promise<void> {
    for (let round = 0; round < 100; round++) {
      const members = this.#members();
      if (members.length === 0) return;
      for (const pid of members) {
        try {
          process.kill(pid, "SIGKILL");
        } catch {
          // It ended by itself.
        }
      }
      await sleep(10);
    }
    throw new Error(`executor ${this.pid}: processes survive SIGKILL: ${this.#members().join(", ")}`);
  }

  /** Session members, descendants, and (linux launcher) whoever carries this sandbox in its environment, as a cgroup would hold it. */
  #members(): number[] {
    const leader = this.pid;
    if (leader === undefined) return [];
    const members = new Set<number>();
    const table = readProcesses();
    for (const entry of table) {
      const related = entry.pid === leader || entry.session === leader || members.has(entry.parent);
      if (related || (this.#spec.launcher === "linux" && this.#carriesSandbox(entry.pid))) members.add(entry.pid);
    }
    return [...members];
  }

  #carriesSandbox(pid: number): boolean {
    try {
      // A container of a Docker engine has a pid namespace of its own and belongs to that engine, whatever its environment says.
      if (readlinkSync(`/proc/${pid}/ns/pid`) !== readlinkSync("/proc/self/ns/pid")) return false;
      return readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(`MESOS_DIRECTORY=${this.#spec.sandbox}`);
    } catch {
      return false;
    }
  }
}

interface ProcessEntry {
  pid: number;
  parent: number;
  session: number;
}

/** Living processes (no zombies), in the order of their pids. */
function readProcesses(): ProcessEntry[] {
  const entries: ProcessEntry[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "latin1");
      // The command name in parentheses may hold blanks and parentheses itself.
      const [state, parent, , session] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (state !== "Z" && state !== "X") entries.push({ pid: Number(name), parent: Number(parent), session: Number(session) });
    } catch {
      // It ended while we read.
    }
  }
  return entries.sort((a, b) => a.pid - b.pid);
}
