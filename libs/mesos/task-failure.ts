/** The `TaskStatus.Reason` names that Berth sends (Mesos v1 names; the agent drops an unknown name silently). */
export type TaskStatusReason =
  | "REASON_TASK_INVALID"
  | "REASON_TASK_UNAUTHORIZED"
  | "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"
  | "REASON_TASK_CHECK_STATUS_UPDATED"
  | "REASON_TASK_KILLED_DURING_LAUNCH"
  | "REASON_MAX_COMPLETION_TIME_REACHED"
  | "REASON_CONTAINER_LAUNCH_FAILED"
  | "REASON_CONTAINER_LIMITATION_MEMORY"
  | "REASON_COMMAND_EXECUTOR_FAILED"
  | "REASON_EXECUTOR_TERMINATED"
  | "REASON_EXECUTOR_UNREGISTERED"
  | "REASON_EXECUTOR_REGISTRATION_TIMEOUT";

export interface TaskFailureFields {
  /** `TASK_ERROR` when the TaskInfo itself is wrong, `TASK_FAILED` for everything else. */
  state?: "TASK_FAILED" | "TASK_ERROR";
  reason?: TaskStatusReason;
  /** True when the same step may succeed if it is tried again (the caller decides whether it is). */
  recoverable?: boolean;
  cause?: unknown;
}

const BRAND = Symbol.for("berth.TaskFailure");

/**
 * Why a task cannot go on, in words for the framework's user: the message becomes the status message, so it names what failed
 * and what to do, and never holds a secret. Thrown by whatever prepares, starts or watches a task; the reconciler turns it into
 * the terminal update. Recognised across threads and package copies by {@link TaskFailure.is}.
 */
export class TaskFailure extends Error {
  override readonly name = "TaskFailure";
  readonly code = "BERTH_TASK_FAILURE";
  readonly state: "TASK_FAILED" | "TASK_ERROR";
  readonly reason: TaskStatusReason;
  readonly recoverable: boolean;
  readonly [BRAND] = true;

  constructor(message: string, fields: TaskFailureFields = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.state = fields.state ?? "TASK_FAILED";
    this.reason = fields.reason ?? (this.state === "TASK_ERROR" ? "REASON_TASK_INVALID" : "REASON_CONTAINER_LAUNCH_FAILED");
    this.recoverable = fields.recoverable ?? false;
  }

  static is(error: unknown): error is TaskFailure {
    return error instanceof Error && (BRAND in error || (error as { code?: unknown }).code === "BERTH_TASK_FAILURE");
  }
}
