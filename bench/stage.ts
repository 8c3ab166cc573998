import { join } from "node:path";
import { LocalSupervisor } from "@berth/cli/local-supervisor";
import { LocalAgent, type LocalExecutor, type ObservedStatus, type TaskInfoInput } from "@berth/mesos/local-agent";
import { BUSYBOX_IMAGE, type Dockerd, startDockerd, type TempDir, tempDir, waitFor } from "@berth/test-harness";
import { build } from "../scripts/build/build.ts";

/** What a benchmark runs on: a build of Berth as it would be installed, a private dockerd, a supervisor, a local agent. */
export class BenchStage implements AsyncDisposable {
  readonly docker: Dockerd;
  readonly supervisor: LocalSupervisor;
  readonly agent: LocalAgent;
  readonly #folder: TempDir;
  #executors = 0;

  private constructor(docker: Dockerd, supervisor: LocalSupervisor, agent: LocalAgent, folder: TempDir) {
    this.docker = docker;
    this.supervisor = supervisor;
    this.agent = agent;
    this.#folder = folder;
  }

  static async start(): Promise<BenchStage> {
    const folder = await tempDir("bench");
    const installed = await build(join(folder.path, "installed"));
    const docker = await startDockerd();
    const supervisor = await LocalSupervisor.start({
      directory: folder.path,
      executable: join(installed.folder, "bin/berthd"),
      environment: { DOCKER_HOST: docker.host },
      logFile: `${folder.path}/berthd.log`,
    });
    const agent = await LocalAgent.start({ workDirectory: `${folder.path}/agent`, checkpoint: true });
    return new BenchStage(docker, supervisor, agent, folder);
  }

  /** An executor that has subscribed and waits for its task. */
  async executor(): Promise<LocalExecutor> {
    const executor = this.agent.startExecutor({
      executorId: `bench-${++this.#executors}`,
      command: `exec ${this.#folder.path}/installed/bin/berth-worker`,
      environment: { PATH: process.env.PATH ?? "", BERTH_SOCKET: this.supervisor.socket },
    });
    await waitFor(() => executor.subscriptions > 0, { deadline: 30_000, interval: 5 });
    return executor;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.agent.stop();
    await this.supervisor.stop();
    await this.docker.stop();
    await this.#folder.remove();
  }
}

export function sleepingTask(id: string): TaskInfoInput {
  return {
    task_id: { value: id },
    container: { type: "DOCKER", docker: { image: BUSYBOX_IMAGE, network: "HOST" } },
    command: { shell: false, value: "sleep", arguments: ["1000000"] },
  };
}

/** The create request that a launch of {@link sleepingTask} amounts to, for the same done bare. */
export const SLEEPING_CREATE = { Image: BUSYBOX_IMAGE, Cmd: ["sleep", "1000000"], HostConfig: { NetworkMode: "host" } };

export function nextState(executor: LocalExecutor, state: string): Promise<ObservedStatus> {
  return new Promise((resolve) => {
    executor.on("update", (update) => {
      if (update.state === state) resolve(update);
    });
  });
}

/** The value below which the given part (0.5: the median) of the samples lies. */
export function percentile(samples: readonly number[], part: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

export function rounded(value: number, digits = 3): number {
  return Number(value.toFixed(digits));
}
