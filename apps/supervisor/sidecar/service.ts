import type { HookTask } from "@berth/hooks";
import type { TaskInfo } from "@berth/mesos/task-info";

/** The label by which a service stays out of Sidecar: no health from there, no drain. */
const DISCOVER_LABEL = "SidecarDiscover";
const FALSE = new Set(["0", "f", "F", "FALSE", "false", "False"]);

/** Whether Sidecar is asked about this task. */
export function isInSidecar(task: TaskInfo): boolean {
  const docker = task.container?.docker;
  if (docker === undefined) return false;
  const value = docker.parameters.findLast(({ key, value: pair }) => key === "label" && pair.startsWith(`${DISCOVER_LABEL}=`))?.value;
  return value === undefined || !FALSE.has(value.slice(DISCOVER_LABEL.length + 1));
}

/** Sidecar's id of a service: the first twelve digits of its container's. */
export function serviceId(containerId: string): string {
  return containerId.slice(0, 12);
}

/** This host's name in Sidecar's state. */
export function sidecarHost(
  { executorEnvironment, agentHostname }: Pick<HookTask, "executorEnvironment" | "agentHostname">,
  configured: string,
): string {
  return executorEnvironment.TASK_HOST || configured || executorEnvironment.MESOS_HOSTNAME || agentHostname;
}
