import { TaskFailure } from "@berth/mesos";

/** The failure of a TaskInfo that can never run: the field by its path, and what is accepted there. Never a value: it may be a secret. */
export function invalidField(field: string, why: string): TaskFailure {
  return new TaskFailure(`the TaskInfo is invalid: ${field}: ${why}`, { state: "TASK_ERROR", reason: "REASON_TASK_INVALID" });
}
