import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { LocalSupervisor } from "@berth/cli/local-supervisor";
import { program } from "@berth/cli/programs";
import { LocalAgent, type LocalExecutor, type ObservedStatus, type TaskInfoInput } from "@berth/mesos/local-agent";
import { type TempDir, tempDir, waitFor } from "@berth/test-harness";

/** What the tests of command tasks run on: a supervisor without a Docker daemon, and a local agent. */
export class CommandStage implements AsyncDisposable {
  readonly folder: TempDir;
  readonly agent: LocalAgent;
  readonly #settings: Record<string, string>;
  supervisor: LocalSupervisor;
  /** The worker's program. */
  worker = WORKER;

  private constructor(folder: TempDir, agent: LocalAgent, supervisor: LocalSupervisor, settings: Record<string, string>) {
    this.folder = folder;
    this.agent = agent;
    this.supervisor = supervisor;
    this.#settings = settings;
  }

  static async start(settings: Record<string, string> = {}): Promise<CommandStage> {
    const folder = await tempDir("cmd");
    const supervisor = await startSupervisor(folder.path, settings);
    const agent = await LocalAgent.start({ workDirectory: `${folder.path}/agent`, checkpoint: true });
    return new CommandStage(folder, agent, supervisor, settings);
  }

  /** Another supervisor on the same socket, after the first one's end. */
  async restartSupervisor(): Promise<void> {
    this.supervisor = await startSupervisor(this.folder.path, this.#settings);
  }

  /** `before` runs in the shell that becomes the worker. */
  executor(environment: Record<string, string> = {}, before = ""): LocalExecutor {
    return this.agent.startExecutor({
      executorId: `x-${randomBytes(5).toString("hex")}`,
      command: `${before === "" ? "" : `${before}; `}exec ${this.worker}`,
      environment: { PATH: process.env.PATH ?? "", BERTH_SOCKET: this.supervisor.socket, ...environment },
    });
  }

  /** Launches a task in an executor of its own. */
  launch(task: TaskInfoInput, environment?: Record<string, string>, before?: string): LocalExecutor {
    const executor = this.executor(environment, before);
    executor.launch(task);
    return executor;
  }

  log(): string {
    return readFileSync(`${this.folder.path}/berthd.log`, "utf8");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.agent.stop();
    await this.supervisor.stop();
    await this.folder.remove();
  }
}

async function startSupervisor(directory: string, settings: Record<string, string>): Promise<LocalSupervisor> {
  const environment = { DOCKER_HOST: `unix://${directory}/no-docker.sock`, EXECUTOR_SIDECAR: "false", ...settings };
  return await LocalSupervisor.start({ directory, environment, logFile: `${directory}/berthd.log` });
}

export function shellTask(command: string, more: Record<string, unknown> = {}): TaskInfoInput {
  return commandTask({ value: command }, more);
}

export function commandTask(command: object, more: Record<string, unknown> = {}): TaskInfoInput {
  return { task_id: { value: `t-${randomBytes(5).toString("hex")}` }, command, ...more };
}

export function statesOf(executor: LocalExecutor, task: TaskInfoInput): string[] {
  return executor.updates.filter((update) => update.task_id.value === task.task_id.value).map((update) => update.state);
}

export async function state(executor: LocalExecutor, task: TaskInfoInput, wanted: string, deadline = 40_000): Promise<ObservedStatus> {
  const id = task.task_id.value;
  const told = (): ObservedStatus | undefined =>
    executor.updates.find((update) => update.task_id.value === id && (update.state === wanted || isOver(update.state)));
  await waitFor(told, { deadline, what: `${wanted} of ${id} (so far: ${statesOf(executor, task).join(", ") || "nothing"})` });
  const found = executor.updates.find((update) => update.task_id.value === id && update.state === wanted);
  if (found !== undefined) return found;
  const last = executor.updates.findLast((update) => update.task_id.value === id);
  throw new Error(`wanted ${wanted} of ${id}, but it is ${last?.state}: ${last?.message}`);
}

function isOver(name: string): boolean {
  return ["TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST"].includes(name);
}

/** The worker that is tested: the one of this checkout, or the one that a test of another build names. */
export const WORKER = process.env.BERTH_TEST_WORKER ?? program("berth-worker");

export function stdoutOf(executor: LocalExecutor): string {
  return readFileSync(`${executor.sandbox}/stdout`, "utf8");
}

/** A number that no other process has on its command line: `sleep 3…` is found by it. */
export function newMark(): string {
  return `3${Math.floor(1e8 + Math.random() * 8e8)}`;
}

/** Pids of living processes (stopped ones too, zombies not) that have this word on their command line. */
export function processesWith(word: string): number[] {
  const found: number[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (/\) [ZX] /.test(readFileSync(`/proc/${name}/stat`, "latin1"))) continue;
      if (readFileSync(`/proc/${name}/cmdline`, "latin1").split("\0").includes(word)) found.push(Number(name));
    } catch {} // It ended while it was looked at.
  }
  return found;
}

export async function allGone(word: string, what: string): Promise<void> {
  await waitFor(() => processesWith(word).length === 0, { what });
}
