import { TaskFailure } from "@berth/mesos";
import { parseTaskInfo, type TaskInfo } from "@berth/mesos/task-info";
import type { TaskRecord } from "@berth/protocol";
import { checkProcess, isCommandTask } from "../process/process-plan.ts";

/** Parses the TaskInfos of a launch. A group is taken or refused whole: one that is invalid refuses the others with it. */
export function parseTaskInfos(records: readonly TaskRecord[]): Map<string, TaskInfo | TaskFailure> {
  const parsed = new Map(records.map((record) => [record.taskId, parsedOrFailure(record)] as const));
  const own = new Map(parsed);
  for (const record of records) {
    if (own.get(record.taskId) instanceof TaskFailure) continue;
    const failedMate = record.group?.find((id) => own.get(id) instanceof TaskFailure);
    if (failedMate === undefined) continue;
    const failure = own.get(failedMate) as TaskFailure;
    const message = `not launched, because task ${failedMate} of its group cannot be: ${failure.message}`;
    parsed.set(record.taskId, new TaskFailure(message, { state: failure.state, reason: failure.reason }));
  }
  return parsed;
}

function parsedOrFailure(record: TaskRecord): TaskInfo | TaskFailure {
  try {
    const task = parseTaskInfo(record.taskInfo);
    if (record.child !== undefined) return task;
    if (isCommandTask(task)) checkProcess(task);
    if (task.container?.docker !== undefined || isCommandTask(task)) return task;
    const message = "the TaskInfo is invalid: it has neither a Docker container (container.docker) nor a command of its own (command)";
    return new TaskFailure(message, { state: "TASK_ERROR" });
  } catch (error) {
    if (error instanceof TaskFailure) return error;
    throw error;
  }
}
