import type { HookRunner } from "@berth/hooks";
import { TaskFailure } from "@berth/mesos";
import type { TaskInfo } from "@berth/mesos/task-info";
import type { TaskRecord } from "@berth/protocol";
import type { TaskIdentity } from "@berth/runtime";
import type { DockerEngine } from "@berth/runtime/docker/engine";
import type { ImageReference } from "@berth/runtime/docker/image-reference";
import { CONTAINER_LABELS, type ContainerPlan, nameFor, parseDropInFlags } from "@berth/runtime/docker/plan";
import type { Counter } from "./admin/metrics.ts";
import { DockerRuntime } from "./docker/docker-runtime.ts";
import type { EventJournal } from "./event-journal.ts";
import type { Executor } from "./executor/executor.ts";
import { PidFinder } from "./process/pid-here.ts";
import { isCommandTask } from "./process/process-plan.ts";
import { ProcessRuntime, type ProcessRuntimeParts } from "./process/process-runtime.ts";
import type { TaskOptions } from "./settings.ts";
import type { Outcome } from "./task/outcome.ts";
import type { LogPort, SecretPort, TaskLog, Watch } from "./task/ports.ts";
import type { TaskRuntime } from "./task/runtime.ts";
import type { Checkpoint } from "./task/situation.ts";
import { Task } from "./task/task.ts";

export interface TaskFactoryParts {
  engine: DockerEngine;
  hooks: HookRunner;
  journal: EventJournal;
  transitions: Counter;
  now: () => number;
  log: TaskLog;
  /** The task's settings: the host's, with what its executor's environment may override. Throws a TaskFailure for a bad override. */
  optionsFor: (executorEnvironment: Readonly<Record<string, string>>) => TaskOptions;
  judge: (plan: ContainerPlan, sandbox: string) => string[];
  registryAuth: (image: ImageReference, options: TaskOptions, signal: AbortSignal) => Promise<string | undefined>;
  /** Whether the container of a task with this outcome stays for a post-mortem. */
  keepsContainer: (outcome: Outcome, finishedAt: number | undefined) => boolean;
  secretsFor: (identity: TaskIdentity, options: TaskOptions) => SecretPort;
  logsFor: (
    executor: Executor,
    identity: TaskIdentity,
    options: TaskOptions,
    task: TaskInfo | undefined,
    runtime: TaskRuntime,
    /** The position that an earlier supervisor kept. */
    position: unknown,
  ) => LogPort;
  watchesFor: (executor: Executor, options: TaskOptions) => Watch[];
}

/** Who hears of a command task's process. */
type Ears = Pick<ProcessRuntimeParts, "output" | "onNews" | "onOutput" | "onWritten">;

/** Puts a task's reconciler together from what its worker told and what the host has. */
export class TaskFactory {
  readonly #parts: TaskFactoryParts;
  readonly #pids = new PidFinder();

  constructor(parts: TaskFactoryParts) {
    this.#parts = parts;
  }

  create(executor: Executor, record: TaskRecord, parsed: TaskInfo | TaskFailure): Task {
    const { hello } = executor;
    const { parts, identity } = { parts: this.#parts, identity: identityOf(executor, record.taskId) };
    const { options, failure } = this.#options(hello.environment);
    const usable = failure ?? parsed;
    const info = usable instanceof TaskFailure ? undefined : usable;
    const handle: { task?: Task; logs?: LogPort } = {};
    const runtime = this.#runtime(executor, record, info, options, {
      onNews: () => handle.task?.observeAgain(),
      output: () => (handle.logs?.wantsOutput === true ? "forward" : "inherit"),
      onOutput: (piece) => handle.logs?.push?.(piece),
      onWritten: (written) => handle.logs?.expect?.(written),
    });
    const position = (record.checkpoint?.data as Checkpoint | undefined)?.logs;
    const logs = parts.logsFor(executor, identity, options, info, runtime, position);
    handle.logs = logs;
    if (record.output !== undefined) logs.expect?.(record.output);
    const task = new Task({
      identity,
      record,
      task: usable,
      surroundings: {
        executorEnvironment: hello.environment,
        agentHostname: hello.agentHostname,
        sandbox: hello.sandbox,
        frameworkName: hello.frameworkName,
      },
      worker: executor,
      runtime,
      hooks: parts.hooks,
      secrets: parts.secretsFor(identity, options),
      logs,
      watches: parts.watchesFor(executor, options),
      keepsContainer: parts.keepsContainer,
      warnings: options.warnings,
      takesKilling: hello.frameworkCapabilities.includes("TASK_KILLING_STATE"),
      exitStates: options.exitStates,
      successState: runtime.kind === "process" && options.settings.commandSuccess === "failed" ? "TASK_FAILED" : "TASK_FINISHED",
      sidecarByExitCode: options.settings.sidecarUnhealthyState !== "failed",
      defaultGracePeriodMs: options.killTaskTimeoutMs,
      now: parts.now,
      monotonic: () => performance.now(),
      log: parts.log,
      onUpdate: ({ state, reason = "" }) => parts.transitions.add({ to: state, reason }),
      onEvent: (event) => parts.journal.add({ ...event, taskId: identity.taskId }),
      onConcluded: (outcome) => {
        // In the constructor of a task that is refused at once, the others of its group do not exist yet: they are refused with it.
        if (handle.task !== undefined) executor.taskConcluded(handle.task, outcome);
      },
      onFinished: () => executor.taskFinished(task),
    });
    handle.task = task;
    return task;
  }

  /** Settings that a task overrides wrongly fail that task and no other; the host's own serve for its cleanup. */
  #options(executorEnvironment: Readonly<Record<string, string>>): { options: TaskOptions; failure?: TaskFailure } {
    try {
      return { options: this.#parts.optionsFor(executorEnvironment) };
    } catch (error) {
      if (!TaskFailure.is(error)) throw error;
      return { options: this.#parts.optionsFor({}), failure: error };
    }
  }

  #runtime(executor: Executor, record: TaskRecord, task: TaskInfo | undefined, options: TaskOptions, ears: Ears): TaskRuntime {
    if (record.child !== undefined || (task === undefined ? !asksForContainer(record) : isCommandTask(task)))
      return this.#processRuntime(executor, record, options, ears);
    const { hello } = executor;
    const { parts, identity } = { parts: this.#parts, identity: identityOf(executor, record.taskId) };
    return new DockerRuntime({
      engine: parts.engine,
      input: {
        identity,
        executorEnvironment: hello.environment,
        executorArguments: hello.args,
        sandbox: hello.sandbox,
        agentHostname: hello.agentHostname,
        worker: { pid: hello.pid, ...(hello.startTime === undefined ? {} : { startTime: hello.startTime }) },
        options: options.docker,
      },
      labels: {
        [CONTAINER_LABELS.launchedAt]: String(record.launchedAt),
        ...(hello.pidNamespace === undefined ? {} : { [CONTAINER_LABELS.workerPidNamespace]: hello.pidNamespace }),
      },
      name: nameFor(identity, parseDropInFlags(hello.args), options.docker),
      id: (record.checkpoint?.data as Checkpoint | undefined)?.id,
      pullAttempts: options.pullAttempts,
      judge: parts.judge,
      registryAuth: (image, signal) => parts.registryAuth(image, options, signal),
    });
  }

  #processRuntime(executor: Executor, record: TaskRecord, options: TaskOptions, ears: Ears): ProcessRuntime {
    const { hello } = executor;
    return new ProcessRuntime({
      identity: identityOf(executor, record.taskId),
      record,
      worker: executor,
      place: { sandbox: hello.sandbox, path: hello.environment.PATH, process: hello },
      pids: this.#pids,
      gracePeriodMs: options.killTaskTimeoutMs,
      sparedFromSigterm: options.sparedFromSigterm,
      ...ears,
    });
  }
}

/** Of a TaskInfo that was refused: what never was a container's needs no engine to be cleaned up. */
function asksForContainer({ taskInfo }: TaskRecord): boolean {
  const container = taskInfo.container as { type?: unknown; docker?: unknown } | null | undefined;
  return container?.docker !== undefined || container?.type === "DOCKER";
}

function identityOf(executor: Executor, taskId: string): TaskIdentity {
  const { frameworkId, executorId, containerId } = executor.hello;
  return { frameworkId, executorId, containerId, taskId };
}
