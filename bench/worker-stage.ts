import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { LocalAgent, type LocalExecutor } from "@berth/mesos/local-agent";
import { type TempDir, tempDir, waitFor } from "@berth/test-harness";
import { CrowdSupervisor } from "./crowd-supervisor.ts";

/** An agent and a supervisor's socket for workers of one host, and what those workers weigh. */
export class WorkerCrowd implements AsyncDisposable {
  readonly agent: LocalAgent;
  readonly supervisor: CrowdSupervisor;
  readonly executors: LocalExecutor[] = [];
  readonly #command: string;
  readonly #folder: TempDir;

  private constructor(command: string, agent: LocalAgent, supervisor: CrowdSupervisor, folder: TempDir) {
    this.#command = command;
    this.agent = agent;
    this.supervisor = supervisor;
    this.#folder = folder;
  }

  static async open(command: string): Promise<WorkerCrowd> {
    const folder = await tempDir("wb");
    const agent = await LocalAgent.start({ workDirectory: join(folder.path, "a"), checkpoint: true });
    const supervisor = new CrowdSupervisor(join(folder.path, "s"));
    await supervisor.listen();
    return new WorkerCrowd(command, agent, supervisor, folder);
  }

  /** Starts one more and waits until both its sockets are in use. Returns the milliseconds from its start to SUBSCRIBE. */
  async add(): Promise<number> {
    const hellos = this.supervisor.count("hello");
    const begun = performance.now();
    const executor = this.agent.startExecutor({
      executorId: `worker-${this.executors.length}`,
      command: `exec ${this.#command}`,
      environment: { PATH: process.env.PATH ?? "", BERTH_SOCKET: this.supervisor.path },
    });
    await waitFor(() => executor.subscriptions > 0, { interval: 1, what: "SUBSCRIBE" });
    const took = performance.now() - begun;
    await waitFor(() => this.supervisor.count("hello") > hellos, { interval: 1, what: "the hello" });
    this.executors.push(executor);
    return took;
  }

  get pids(): number[] {
    return this.executors.map((executor) => executor.pid as number);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.agent.stop();
    await this.supervisor.stop();
    await this.#folder.remove();
  }
}

/** Kilobytes: its share of what it uses, what is its alone, and of that what no file holds. */
export function weight(pid: number): { pss: number; private: number; anonymous: number } {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const field = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(rollup)?.[1] ?? Number.NaN);
  return { pss: field("Pss"), private: field("Private_Clean") + field("Private_Dirty"), anonymous: field("Anonymous") };
}

/** Milliseconds that the threads of a process have run. */
export function cpuTime(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  return threads.reduce(
    (sum, thread) => sum + Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]) / 1e6,
    0,
  );
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
