import type { HookRunner, HookTask } from "@berth/hooks";
import type { TaskFailure } from "@berth/mesos";
import type { TaskInfo } from "@berth/mesos/task-info";
import type { RequestedUpdate, TaskRecord } from "@berth/protocol";
import type { Observed, TaskIdentity } from "@berth/runtime";
import type { ExitStates, Outcome } from "./outcome.ts";
import type { LogPort, SecretPort, TaskEvent, TaskLog, Watch, WorkerPort } from "./ports.ts";
import type { TaskRuntime } from "./runtime.ts";
import type { Phase } from "./situation.ts";
import type { Stop } from "./stop.ts";

/** What a task's reconciler is made of; given to it at construction. */
export interface TaskParts {
  identity: TaskIdentity;
  record: TaskRecord;
  /** What the TaskInfo was parsed to, or why it cannot be. */
  task: TaskInfo | TaskFailure;
  /** Describes the executor to hooks. */
  surroundings: Pick<HookTask, "executorEnvironment" | "agentHostname" | "sandbox" | "frameworkName">;
  worker: WorkerPort;
  runtime: TaskRuntime;
  hooks: HookRunner;
  secrets: SecretPort;
  logs: LogPort;
  watches: readonly Watch[];
  takesKilling: boolean;
  /** Whether the container of a task with this outcome stays for a post-mortem; the reaper removes it later. */
  keepsContainer: (outcome: Outcome, finishedAt: number | undefined) => boolean;
  /** Said once, at the task's beginning. */
  warnings: readonly string[];
  exitStates: ExitStates;
  successState: "TASK_FINISHED" | "TASK_FAILED";
  /** A task that Sidecar calls unhealthy gets its state by its exit code, as sidecar-executor has it. */
  sidecarByExitCode: boolean;
  /** Where neither the KILL nor the TaskInfo gives a grace period, milliseconds. */
  defaultGracePeriodMs: number;
  now: () => number;
  /** Milliseconds that no setting of the host's clock moves. */
  monotonic: () => number;
  log: TaskLog;
  /** Told of every update that goes to the agent. */
  onUpdate: (update: RequestedUpdate) => void;
  /** Told of everything that happens to the task, secrets masked. */
  onEvent: (event: TaskEvent) => void;
  /** Called once, when it is settled what the agent will hear. */
  onConcluded: (outcome: Outcome) => void;
  /** Called once, when nothing of the task is left to do. */
  onFinished: () => void;
}

/** What `berth inspect` shows of a task. */
export interface TaskDescription {
  identity: TaskIdentity;
  name: string;
  runtime: "docker" | "process";
  phase: Phase;
  step: string;
  observed: Observed | undefined;
  lastStatus: TaskRecord["lastStatus"];
  worker: WorkerPort["presence"];
  launchedAt: number;
  healthy: boolean | undefined;
  stop: Stop | undefined;
  outcome: Outcome | undefined;
  image: string | undefined;
  environment: Record<string, string> | undefined;
  environmentOrigins: Record<string, string> | undefined;
  task: TaskInfo | undefined;
  events: readonly TaskEvent[];
}
