import type { CheckStatus, TaskStatusReason } from "@berth/mesos";
import type { TaskInfo } from "@berth/mesos/task-info";
import type { TaskIdentity } from "@berth/runtime";
import type { ExecRequest, ExecResult } from "@berth/runtime/docker/engine-types";

/** A running task, as much of it as a check needs. */
export interface CheckedTask {
  identity: TaskIdentity;
  task: TaskInfo;
  observed: {
    /** The container's id, or the pid of a command task as text. */
    id: string;
    /** Of the task's main process, in our pid namespace. */
    pid: number;
    /** Milliseconds since the epoch. */
    startedAt: number;
  };
  /** The last verdict of an earlier supervisor; undefined where there was none. */
  healthyBefore: boolean | undefined;
}

/** What goes into a TASK_RUNNING update. */
export interface CheckReport {
  message?: string;
  reason?: TaskStatusReason;
  checkStatus?: CheckStatus;
}

/** What a watch tells. Each of them is called at any time until the watch is ended, and never after. */
export interface HealthVerdicts {
  health(healthy: boolean, report?: CheckReport): void;
  check(report: CheckReport): void;
  stop(cause: "unhealthy", message: string): void;
}

/** Fits the supervisor's `Watch`. */
export interface HealthWatch {
  readonly name: string;
  decidesHealth(task: TaskInfo): boolean;
  /** Begins to check; the returned function ends it at once: no check under way is left behind. */
  begin(task: CheckedTask, verdicts: HealthVerdicts): () => void;
}

export interface HealthLog {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface HealthParts {
  /** Runs a command in a container and kills it at its time limit: `DockerEngine.exec`. */
  exec: (request: ExecRequest, signal?: AbortSignal) => Promise<ExecResult>;
  /** Milliseconds since the epoch. */
  now: () => number;
  log: HealthLog;
  /** 0 ≤ x < 1. Default Math.random. */
  random?: () => number;
  /** Where the process file system of the tasks' pid namespace is mounted. Default "/proc". */
  procPath?: string;
  /** False: HTTP, TCP and process checks are made in the caller's thread. Default true. */
  thread?: boolean;
  /** Checks of all tasks that may run at one time; further ones wait their turn, which is no failure. Default 256. */
  maxConcurrent?: number;
}
