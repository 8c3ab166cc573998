/**
 * The labels that Berth puts on its containers: who a container belongs to, and what it takes to finish it when both its
 * worker and the supervisor that started it are gone. They never hold a secret: anybody who may talk to Docker reads them.
 */

import type { TaskInfo } from "@berth/mesos/task-info";
import type { Hello, TaskRecord } from "@berth/protocol";
import type { TaskIdentity } from "@berth/runtime";
import { CONTAINER_LABELS } from "@berth/runtime/docker/plan";
import type { Checkpoint } from "../task/situation.ts";

/** The ids of the task that a container runs; undefined for one that is not ours. */
export function identityOf(labels: Readonly<Record<string, string>>): TaskIdentity | undefined {
  const frameworkId = labels[CONTAINER_LABELS.frameworkId];
  const executorId = labels[CONTAINER_LABELS.executorId];
  const containerId = labels[CONTAINER_LABELS.containerId];
  const taskId = labels[CONTAINER_LABELS.taskId];
  if (frameworkId === undefined || executorId === undefined || containerId === undefined || taskId === undefined) return undefined;
  return { frameworkId, executorId, containerId, taskId };
}

/** The parts of a TaskInfo that hooks need to clean up after it: no command, no environment, no data. */
export function cleanupRecord(task: TaskInfo): string {
  const { name, task_id, labels, discovery, kill_policy, container } = task;
  const docker = container?.docker;
  return JSON.stringify({
    name,
    task_id,
    labels,
    discovery,
    kill_policy,
    container: {
      type: container?.type ?? "DOCKER",
      ...(docker === undefined ? {} : { docker: { image: docker.image, network: docker.network, port_mappings: docker.port_mappings } }),
    },
  });
}

/** What an orphaned container's labels say of its worker and its task, in the form that a living worker would have told it. */
export function orphanFromLabels(identity: TaskIdentity, labels: Readonly<Record<string, string>>): { hello: Hello; record: TaskRecord } {
  const checkpoint: Checkpoint = { version: 1, phase: "starting", stages: [], hookStates: {} };
  const record: TaskRecord = {
    taskId: identity.taskId,
    taskInfo: taskInfoFrom(labels[CONTAINER_LABELS.cleanup], identity.taskId),
    launchedAt: Number(labels[CONTAINER_LABELS.launchedAt] ?? 0),
    checkpoint: { sequence: 0, data: checkpoint },
  };
  const unknown = { kind: "other", device: "", inode: "" } as const;
  const hello: Hello = {
    type: "hello",
    protocol: [],
    version: labels[CONTAINER_LABELS.version] ?? "unknown",
    pid: Number(labels[CONTAINER_LABELS.workerPid] ?? 0),
    ...optional("startTime", labels[CONTAINER_LABELS.workerStartTime]),
    ...optional("pidNamespace", labels[CONTAINER_LABELS.workerPidNamespace]),
    frameworkId: identity.frameworkId,
    executorId: identity.executorId,
    containerId: identity.containerId,
    agentId: "",
    agentHostname: labels[CONTAINER_LABELS.agentHostname] ?? "",
    agentEndpoint: "",
    frameworkName: "",
    frameworkCapabilities: [],
    sandbox: labels[CONTAINER_LABELS.sandbox] ?? "",
    stdout: unknown,
    stderr: unknown,
    environment: {},
    args: [],
    shutdownGracePeriodMs: 5000,
    tasks: [record],
  };
  return { hello, record };
}

function taskInfoFrom(text: string | undefined, taskId: string): TaskRecord["taskInfo"] {
  try {
    return JSON.parse(text ?? "") as TaskRecord["taskInfo"];
  } catch {
    // A label that somebody changed: the container is still removed, only the hooks know less.
    return { task_id: { value: taskId } };
  }
}

function optional<Key extends string>(key: Key, value: string | undefined): Partial<Record<Key, string>> {
  return value === undefined || value === "" ? {} : ({ [key]: value } as Record<Key, string>);
}
