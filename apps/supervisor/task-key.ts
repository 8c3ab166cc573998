import type { TaskIdentity } from "@berth/runtime";

/** Names one run of one task in the worker threads: unique on this host, and the same after a restart of the supervisor. */
export function taskKey({ frameworkId, executorId, containerId, taskId }: TaskIdentity): string {
  return JSON.stringify([frameworkId, executorId, containerId, taskId]);
}

/** The ids that a key was made of. */
export function identityOfKey(key: string): TaskIdentity {
  const [frameworkId = "", executorId = "", containerId = "", taskId = ""] = JSON.parse(key) as string[];
  return { frameworkId, executorId, containerId, taskId };
}
