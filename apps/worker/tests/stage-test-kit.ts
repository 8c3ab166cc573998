import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, rmdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { LocalAgent, type LocalAgentOptions, type LocalExecutor, type TaskInfoInput } from "@berth/mesos/local-agent";
import { type TempDir, tempDir, waitFor } from "@berth/test-harness";
import { ScriptedSupervisor } from "./scripted-supervisor.ts";

const MAIN = fileURLToPath(new URL("../host-node/main.ts", import.meta.url));

/** A local agent and a scripted supervisor, between which a test puts real workers. */
export class WorkerStage implements AsyncDisposable {
  readonly agent: LocalAgent;
  readonly supervisor: ScriptedSupervisor;
  readonly folder: TempDir;

  private constructor(agent: LocalAgent, supervisor: ScriptedSupervisor, folder: TempDir) {
    this.agent = agent;
    this.supervisor = supervisor;
    this.folder = folder;
  }

  static async start(options: Partial<LocalAgentOptions> & { runs?: boolean } = {}): Promise<WorkerStage> {
    const { runs = true, ...agentOptions } = options;
    const folder = await tempDir("w");
    const agent = await LocalAgent.start({ workDirectory: `${folder.path}/a`, checkpoint: true, ...agentOptions });
    return new WorkerStage(agent, await ScriptedSupervisor.start(`${folder.path}/s`, { runs }), folder);
  }

  worker(environment: Record<string, string> = {}, executorInfo: Record<string, unknown> = {}, args = ""): LocalExecutor {
    return this.agent.startExecutor({
      executorId: `x-${randomBytes(4).toString("hex")}`,
      command: `exec ${process.env.BERTH_TEST_WORKER ?? `${process.execPath} ${MAIN}`} ${args}`,
      environment: { PATH: process.env.PATH ?? "", BERTH_SOCKET: this.supervisor.path, ...environment },
      executorInfo,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.agent.stop();
    await this.supervisor.stop();
    // A worker that is killed cannot remove its tasks' cgroups; a real agent destroys them with the executor's own.
    for (const { child } of this.supervisor.said("spawned")) await Promise.all((child.cgroups ?? []).map(removeCgroup));
    await this.folder.remove();
  }
}

export function newTask(more: Record<string, unknown> = {}): TaskInfoInput {
  return { task_id: { value: `t-${randomBytes(4).toString("hex")}` }, ...more };
}

/** The states of a task as the scheduler saw them. */
export function statesOf(executor: LocalExecutor, task: TaskInfoInput): string[] {
  return executor.updates.filter((update) => update.task_id.value === task.task_id.value).map((update) => update.state);
}

/** What the worker logged, as a framework's user reads it. */
export function logOf(executor: LocalExecutor): string {
  return readFileSync(`${executor.sandbox}/stderr`, "utf8");
}

/** Kernels take a moment to see that the last process is gone. */
async function removeCgroup(directory: string): Promise<void> {
  await waitFor(() => {
    if (existsSync(directory)) rmdirSync(directory);
    return true;
  });
}
