import type { TaskInspection, TaskLogView, TaskSummary } from "@berth/admin-api";
import type { TaskLogStatistics } from "@berth/logrelay";
import type { Executors } from "../executor/executors.ts";
import type { Task } from "../task/task.ts";
import type { TaskDescription } from "../task/task-parts.ts";
import { AdminError } from "./http.ts";

/** One line of `berth ps`. */
export function summarize(description: TaskDescription): TaskSummary {
  const { identity, observed, lastStatus } = description;
  return {
    taskId: identity.taskId,
    frameworkId: identity.frameworkId,
    executorId: identity.executorId,
    name: description.name,
    runtime: description.runtime,
    state: lastStatus?.state ?? null,
    phase: description.phase,
    step: description.step,
    healthy: description.healthy ?? null,
    id: observed === undefined || observed.state === "absent" ? null : observed.id,
    image: description.image ?? null,
    worker: description.worker,
    launchedAt: description.launchedAt,
    startedAt: observed?.state === "running" ? observed.startedAt : null,
    message: description.outcome?.message ?? lastStatus?.message ?? null,
  };
}

/** What `berth inspect` shows of a task; `logs` is undefined where nothing is known of its output. */
export function inspectionOf(
  description: TaskDescription,
  { sidecar, logs }: { sidecar: TaskInspection["sidecar"]; logs: TaskLogStatistics | undefined },
): TaskInspection {
  const summary = summarize(description);
  // First, so that it is read first; and last, for what is null in it is undefined in the description.
  return { ...summary, ...description, ...summary, sidecar, logs: logs === undefined ? null : logView(logs) };
}

function logView({ taskKey: _key, sinks, ...read }: TaskLogStatistics): TaskLogView {
  return { ...read, targets: sinks };
}

/**
 * The task that an operator means: by task id, container name or container id, whole or by a prefix that only one task has.
 * Throws an {@link AdminError} that lists the candidates when there is none or more than one.
 */
export function findTask(executors: Executors, wanted: string): Task {
  const candidates: Array<{ task: Task; names: string[] }> = [];
  for (const task of executors.tasks()) {
    const { taskId, id, name } = summarize(task.describe());
    const names = [taskId, name, ...(id === null ? [] : [id])];
    if (names.includes(wanted)) return task;
    if (names.some((candidate) => candidate.startsWith(wanted))) candidates.push({ task, names });
  }
  const only = candidates[0];
  if (only === undefined) throw new AdminError(404, `no task on this host has an id or name that begins with "${wanted}"`);
  if (candidates.length > 1) {
    throw new AdminError(409, `"${wanted}" fits ${candidates.length} tasks: ${candidates.map((entry) => entry.names[0]).join(", ")}`);
  }
  return only.task;
}
