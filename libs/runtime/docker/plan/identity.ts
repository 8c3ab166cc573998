import { createHash } from "node:crypto";
import type { PlanInput, TaskIdentity } from "../../runtime.ts";
import { type DropInFlags, isDropIn } from "./drop-in.ts";
import type { DockerTaskOptions } from "./options.ts";

/**
 * The labels of a container that Berth made. Together they let a supervisor that knows nothing else find it, tell whether its
 * worker lives, stop it with the right grace period and undo what was done for it. Anybody who may talk to Docker reads them.
 */
export const CONTAINER_LABELS = {
  frameworkId: "berth.framework-id",
  executorId: "berth.executor-id",
  /** The Mesos ContainerID of the executor. */
  containerId: "berth.container-id",
  taskId: "berth.task-id",
  workerPid: "berth.worker-pid",
  /** Field 22 of /proc/<pid>/stat: with the pid it names a process for good. */
  workerStartTime: "berth.worker-start-time",
  workerPidNamespace: "berth.worker-pid-namespace",
  /** The sandbox directory on the host. */
  sandbox: "berth.sandbox",
  agentHostname: "berth.agent-hostname",
  /** Grace period of a stop that nobody else gives one for, milliseconds. */
  stopTimeoutMs: "berth.stop-timeout-ms",
  /** When the LAUNCH was taken, milliseconds since the epoch. */
  launchedAt: "berth.launched-at",
  /** What the hooks need to clean up after the task, JSON. */
  cleanup: "berth.cleanup",
  /** The version of Berth that made the container. */
  version: "berth.version",
  /** Which supervisor made it, where several share an engine. */
  instance: "berth.instance",
} as const;

const READABLE_LENGTH = 40;

/**
 * `berth-<readable task id>-<12 hex digits>`: the same for the same run of a task, so that creating it again finds the first one,
 * and another for every other run, also of a reused task id. Never begins with `mesos-`: what is named so is taken for its own
 * by Mesos's docker containerizer, and killed when its agent recovers.
 */
export function containerName(identity: TaskIdentity): string {
  const hash = createHash("sha256");
  for (const part of [identity.frameworkId, identity.executorId, identity.containerId, identity.taskId]) {
    // The length in front keeps ("a", "bc") apart from ("ab", "c").
    hash.update(`${Buffer.byteLength(part)}:${part}`);
  }
  const readable = identity.taskId.slice(0, READABLE_LENGTH).replace(/[^a-zA-Z0-9_.-]/g, "-");
  return `berth-${readable}-${hash.digest("hex").slice(0, 12)}`;
}

/** The name that sidecar-executor gives: `mesos-` and the version 5 UUID of the task id in the all-zero namespace. */
export function incumbentContainerName(taskId: string): string {
  const bytes = createHash("sha1").update(Buffer.alloc(16)).update(taskId).digest().subarray(0, 16);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x50;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return `mesos-${bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5")}`;
}

/** The name that a task's container has: known before its TaskInfo is looked at, so that a task can be adopted without a plan. */
export function nameFor(identity: TaskIdentity, flags: DropInFlags, options: Pick<DockerTaskOptions, "containerNames">): string {
  if (isDropIn(flags)) return flags.container;
  return options.containerNames === "mesos" ? incumbentContainerName(identity.taskId) : containerName(identity);
}

/**
 * Whether a container carries this identity in its labels. Only such a container is adopted when its name is taken: the same
 * name alone, of somebody else's container, is a failure.
 */
export function ownedBy(labels: Readonly<Record<string, string>>, identity: TaskIdentity): boolean {
  return (["frameworkId", "executorId", "containerId", "taskId"] as const).every(
    (part) => labels[CONTAINER_LABELS[part]] === identity[part],
  );
}

/** Berth's own labels of a container. */
export function berthLabels(input: PlanInput<DockerTaskOptions>, stopTimeoutMs: number): Record<string, string> {
  const { identity, worker, options } = input;
  return {
    [CONTAINER_LABELS.frameworkId]: identity.frameworkId,
    [CONTAINER_LABELS.executorId]: identity.executorId,
    [CONTAINER_LABELS.containerId]: identity.containerId,
    [CONTAINER_LABELS.taskId]: identity.taskId,
    [CONTAINER_LABELS.workerPid]: String(worker.pid),
    ...(worker.startTime === undefined ? {} : { [CONTAINER_LABELS.workerStartTime]: worker.startTime }),
    [CONTAINER_LABELS.sandbox]: input.sandbox,
    [CONTAINER_LABELS.agentHostname]: input.agentHostname,
    [CONTAINER_LABELS.stopTimeoutMs]: String(stopTimeoutMs),
    [CONTAINER_LABELS.version]: options.version,
    ...(options.instance === undefined ? {} : { [CONTAINER_LABELS.instance]: options.instance }),
    ...options.extraLabels,
  };
}
