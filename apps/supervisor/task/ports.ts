/** What a task's reconciler needs from the rest of the daemon. Each is given to it at construction; none is looked up. */
import type { LogLine } from "@berth/admin-api";
import type { ContainerStatus } from "@berth/mesos";
import type { TaskInfo } from "@berth/mesos/task-info";
import type { RequestedUpdate, SupervisorMessage } from "@berth/protocol";
import type { Observed, TaskIdentity } from "@berth/runtime";
import type { Outcome } from "./outcome.ts";
import type { Checkpoint, WorkerPresence } from "./situation.ts";
import type { StopCause } from "./stop.ts";

/** The line to a task's worker. `send` drops the message when the worker is away: after its next hello everything is said again. */
export interface WorkerPort {
  readonly presence: WorkerPresence;
  send(message: SupervisorMessage): void;
}

export interface ResolvedSecrets {
  environment: Record<string, string>;
  /** Records of leases to renew while the task runs and to revoke at its end; they hold no secret. */
  leases: unknown[];
}

export interface SecretPort {
  /** Replaces every `vault://` reference and adds what the task's settings ask for. Throws a TaskFailure naming variable and path. */
  resolve(
    environment: Readonly<Record<string, string>>,
    signal: AbortSignal,
    /** Told why it waits, each time that changes. */
    onWaiting: (reason: string) => void,
  ): Promise<ResolvedSecrets>;
  /** Which variables of a plan are references: their values are secrets. */
  references(environment: Readonly<Record<string, string>>): Array<{ name: string; reference: string }>;
  /** Takes over the leases of a task that an earlier supervisor started. */
  adopt(leases: unknown[]): void;
  /** Revokes leases. Bounded. */
  release(): Promise<void>;
  /** Has a value that the TaskInfo itself holds hidden in everything that leaves the daemon. */
  hide(name: string, value: string, source: string): void;
  /** Nothing more will be said of the task: its values need not be hidden any longer. */
  forget(): void;
  /** Hides secret values of this host in a text that leaves the daemon. */
  mask(text: string): string;
}

/** Which part of a task's output is asked for. */
export interface LogQuery {
  follow: boolean;
  /** Milliseconds since the epoch. */
  since?: number;
  /** Only the last so many lines of what is there already. */
  tail?: number;
  /** Default: both. */
  streams?: Array<"stdout" | "stderr">;
}

/** Output of a command task that its worker hands in. */
export interface OutputPiece {
  stream: "stdout" | "stderr";
  bytes: Uint8Array;
  /** How many bytes of the stream came before these; absent from a worker that does not count them. */
  offset?: number;
}

export interface LogPort {
  /**
   * Settles how the output of a process that is about to be started comes here, and says where it begins: kept before the start, so that
   * whoever comes next relays all of it. Undefined where there is nothing to keep.
   */
  beginning?(): unknown;
  /** Whether the output of a command task is to be handed in. */
  readonly wantsOutput?: boolean;
  /** Output of a command task. What comes before `follow` is kept for it. */
  push?(piece: OutputPiece): void;
  /** How much of each stream a worker that is back has had from the process, in bytes. */
  expect?(written: { stdout: number; stderr: number }): void;
  /** Begins (or, after a restart, resumes) to relay the task's output. */
  follow(observed: Observed, position: unknown): void;
  /**
  /**
   * Sends what is still on its way (from `position` on where the task ended before it was followed), and for a task that failed or was
   * killed copies its last output to the sandbox. Bounded. Returns the last few lines, for the status message.
   */
  finish(observed: Observed | undefined, outcome: Outcome, position: unknown): Promise<string[]>;
  /** The output so far and, with `follow`, as it comes, until the task is over or the signal aborts. */
  read(query: LogQuery, signal: AbortSignal): AsyncIterable<LogLine>;
}

/** What a watch tells the reconciler. */
export interface Verdicts {
  /** The first healthy verdict, and every later change. `report` is sent as a TASK_RUNNING update where it is given. */
  health(healthy: boolean, report?: Pick<RequestedUpdate, "message" | "reason" | "checkStatus">): void;
  /** Only the check status changed. */
  check(report: Pick<RequestedUpdate, "message" | "reason" | "checkStatus">): void;
  stop(cause: StopCause, message: string, gracePeriodMs?: number): void;
}

export interface WatchedTask {
  identity: TaskIdentity;
  task: TaskInfo;
  launchedAt: number;
  observed: Extract<Observed, { state: "running" }>;
  healthyBefore: boolean | undefined;
  /** What the hooks keep of the task, by their names. */
  hookStates: Readonly<Record<string, unknown>>;
}

/** Something that looks at a running task: health checks, Sidecar, the completion time, a certificate, a lease. */
export interface Watch {
  readonly name: string;
  /** Whether the task counts as healthy only after this watch said so. */
  decidesHealth(task: TaskInfo): boolean;
  /** Begins to watch; the returned function ends it, at once. */
  begin(task: WatchedTask, verdicts: Verdicts): () => void;
}

export interface TaskEvent {
  at: number;
  /** What happened, for a person, in a few words. */
  what: string;
  detail?: string;
}

export interface TaskLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export type { Checkpoint, ContainerStatus };
