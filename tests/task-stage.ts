import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { program } from "@berth/cli/programs";
import { LocalAgent, type LocalExecutor, type ObservedStatus, type TaskInfoInput } from "@berth/mesos/local-agent";
import { type TempDir, tempDir, waitFor } from "@berth/test-harness";
import { SupervisorStage } from "./supervisor-stage.ts";

/** The worker that is tested: the one of this checkout, or the one that a test of another build names. */
export const WORKER = process.env.BERTH_TEST_WORKER ?? program("berth-worker");

/** What tests of a task's whole way run on: a supervisor, and a local agent that starts real workers. */
export class TaskStage extends SupervisorStage {
  readonly agent: LocalAgent;
  /** The worker's program. */
  worker = WORKER;

  private constructor(folder: TempDir, agent: LocalAgent, settings: Readonly<Record<string, string>>) {
    super(folder, settings);
    this.agent = agent;
  }

  /** `settings` name the Docker engine: DOCKER_HOST. */
  static async start(settings: Readonly<Record<string, string>>): Promise<TaskStage> {
    const stage = await TaskStage.withoutSupervisor(settings);
    try {
      await stage.startSupervisor();
    } catch (error) {
      await stage[Symbol.asyncDispose]();
      throw error;
    }
    return stage;
  }

  static async withoutSupervisor(settings: Readonly<Record<string, string>>): Promise<TaskStage> {
    const folder = await tempDir("s");
    const agent = await LocalAgent.start({ workDirectory: `${folder.path}/agent`, checkpoint: true });
    return new TaskStage(folder, agent, settings);
  }

  /** `before` runs in the shell that becomes the worker. */
  executor(environment: Readonly<Record<string, string>> = {}, before = ""): LocalExecutor {
    return this.agent.startExecutor({
      executorId: `x-${randomBytes(5).toString("hex")}`,
      command: `${before === "" ? "" : `${before}; `}exec ${this.worker}`,
      environment: { PATH: process.env.PATH ?? "", BERTH_SOCKET: this.socket, ...environment },
    });
  }

  /** Launches a task in an executor of its own. */
  launch(task: TaskInfoInput, environment?: Readonly<Record<string, string>>, before?: string): LocalExecutor {
    const executor = this.executor(environment, before);
    executor.launch(task);
    return executor;
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await this.agent.stop();
    await super[Symbol.asyncDispose]();
  }
}

export function statesOf(executor: LocalExecutor, task: TaskInfoInput): string[] {
  return executor.updates.filter((update) => update.task_id.value === task.task_id.value).map((update) => update.state);
}

/** Waits for an update of a task and returns it; throws when the task ends otherwise. `deadline` in milliseconds. */
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

export function stdoutOf(executor: LocalExecutor): string {
  return readFileSync(`${executor.sandbox}/stdout`, "utf8");
}
