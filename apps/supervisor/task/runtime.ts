import type { TaskInfo } from "@berth/mesos/task-info";
import type { TaskRecord, WorkerMessage } from "@berth/protocol";
import type { Observed } from "@berth/runtime";

/** What a plan came out as, for `berth inspect`, the start-up print of a task, and the steps after it. */
export interface PlannedTask {
  /** The environment that the task will get; `vault://` references as written. */
  environment: Record<string, string>;
  /** Where each variable comes from. */
  origins: Record<string, string>;
  gracePeriodMs: number;
  memoryLimitBytes?: number;
  image?: string;
  warnings: string[];
}

/** The image that was there when it was pulled is gone at the create: it is to be pulled again. */
export class ImageGone extends Error {
  override readonly name = "ImageGone";
}

/**
 * The containerizer of one task: what the reconciler's steps do to the world. Every method is safe to repeat. Methods that can
 * take long heed their signal; failures are `TaskFailure`s where they are the task's, any other error is worth another attempt.
 */
export interface TaskRuntime {
  readonly kind: "docker" | "process";
  /** What to call it in messages. */
  readonly noun: "container" | "process";
  /** The name under which an operator finds it: container name, or "process of <task>". */
  readonly name: string;
  /** Maps the TaskInfo to what will be started. Pure but for reading the host's configuration. */
  plan(task: TaskInfo): PlannedTask;
  /** Has the host's policy judge the plan, after all hooks: throws the TaskFailure that refuses it, or returns warnings. */
  judge?(): string[];
  /** Adds variables of beforeCreate hooks to the plan. */
  addEnvironment(variables: Readonly<Record<string, string>>, origin: string): void;
  /** Makes the image present. `progress` is told what happens, a few times a second at most. */
  pull(signal: AbortSignal, progress: (text: string) => void): Promise<void>;
  /** Creates it with the resolved environment, which is not kept afterwards. Rejects with {@link ImageGone} where the image has to be pulled again. */
  create(environment: Readonly<Record<string, string>>, signal: AbortSignal): Promise<void>;
  start(signal: AbortSignal): Promise<void>;
  inspect(signal?: AbortSignal): Promise<Observed>;
  /** A process that is gone is an answer, not an error. */
  signal(signal: "SIGTERM" | "SIGKILL", abort?: AbortSignal): Promise<void>;
  /** Values that variables have in what an earlier supervisor created, to have them hidden again; never to be shown. */
  environmentOf?(names: readonly string[]): Promise<Record<string, string>>;
  /** The pid by which the running process can be found past the engine; undefined where that cannot be trusted. */
  pidOf?(observed: Observed): number | undefined;
  /** What can be told of the process without the engine, for a stop that must end although the engine hangs. */
  glimpse?(process: { id: string; pid: number }): "running" | "gone";
  /** Sends a signal past the engine; false: that did not work. */
  signalDirectly?(process: { id: string; pid: number }, signal: "SIGTERM" | "SIGKILL"): boolean;
  /** Removes every trace of it. */
  remove(): Promise<void>;
  /** What a returning worker's hello says of the task. */
  workerTold?(record: TaskRecord): void;
  /** News from the worker about the child that it started for this task. */
  hear?(message: Extract<WorkerMessage, { type: "spawned" | "spawnFailed" | "exited" | "output" }>): void;
  /** Shown by `ps` as the worker's title. */
  title(observed: Observed): string;
}
