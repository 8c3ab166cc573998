import { isTerminal } from "@berth/mesos";
import { LocalAgent, type LocalExecutor, type ObservedStatus, type TaskInfoInput } from "@berth/mesos/local-agent";
import { program } from "./programs.ts";
import { tailFile } from "./tail-file.ts";

export interface LocalRunOptions {
  taskInfo: TaskInfoInput;
  /** Of the supervisor that the worker registers with. */
  socket: string;
  /** Holds the sandbox. */
  workDirectory: string;
  /** Added to the executor's environment: settings that the task overrides. */
  environment?: Readonly<Record<string, string>>;
  onState?: (status: ObservedStatus) => void;
  /** The task's own output, as it comes. */
  onOutput?: (stream: "stdout" | "stderr", text: string) => void;
}

export interface LocalRunResult {
  status: ObservedStatus;
  /** The task's own exit code where it is known. */
  exitCode: number | undefined;
  sandbox: string;
}

/** The label of a terminal update that carries the task's exit code. */
const EXIT_CODE_LABEL = "berth.exit-code";

/** One task run through the local agent and a real worker, as Mesos would run it. */
export class LocalRun {
  readonly result: Promise<LocalRunResult>;
  readonly #executor: LocalExecutor;
  readonly #taskId: string;

  private constructor(agent: LocalAgent, executor: LocalExecutor, options: LocalRunOptions) {
    this.#executor = executor;
    this.#taskId = options.taskInfo.task_id.value;
    this.result = this.#follow(agent, options);
  }

  /** Starts an agent and an executor for the task. */
  static async start(options: LocalRunOptions): Promise<LocalRun> {
    const agent = await LocalAgent.start({ workDirectory: options.workDirectory, checkpoint: true });
    const executor = agent.startExecutor({
      executorId: options.taskInfo.task_id.value,
      command: `exec '${program("berth-worker").replaceAll("'", "'\\''")}'`,
      environment: {
        PATH: process.env.PATH ?? "/usr/local/bin:/usr/bin:/bin",
        BERTH_SOCKET: options.socket,
        ...options.environment,
      },
    });
    const run = new LocalRun(agent, executor, options);
    executor.launch(options.taskInfo);
    return run;
  }

  get sandbox(): string {
    return this.#executor.sandbox;
  }

  /** As a framework's KILL, with the task's own grace period or another. */
  kill(gracePeriodMs?: number): void {
    this.#executor.kill(this.#taskId, gracePeriodMs === undefined ? {} : { gracePeriodMs });
  }

  async #follow(agent: LocalAgent, { onState, onOutput }: LocalRunOptions): Promise<LocalRunResult> {
    const tails = (["stdout", "stderr"] as const).map((stream) =>
      tailFile(`${this.sandbox}/${stream}`, (text) => onOutput?.(stream, text)),
    );
    const status = await new Promise<ObservedStatus>((resolve) => {
      this.#executor.on("update", (update) => {
        onState?.(update);
        if (isTerminal(update.state) || update.source === "SOURCE_AGENT") resolve(update);
      });
    });
    await this.#executor.exited;
    for (const tail of tails) tail.finish();
    await agent.stop();
    const label = status.labels?.labels.find(({ key }) => key === EXIT_CODE_LABEL)?.value;
    return { status, exitCode: label === undefined ? undefined : Number(label), sandbox: this.sandbox };
  }
}
