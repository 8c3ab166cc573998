import type { TaskIdentity } from "@berth/runtime";

/** Names one run of one task in the worker threads: unique on this host, and the same after a restart of the supervisor. */
export function taskKey({ frameworkId, executorId, containerId, taskId }: TaskIdentity): string {
  return JSON.stringify([frameworkId, executorId, containerId, taskId]);
}
