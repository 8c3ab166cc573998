import { randomBytes } from "node:crypto";
import type { TaskInfoInput } from "@berth/mesos/local-agent";
import { BUSYBOX_IMAGE, type Dockerd } from "@berth/test-harness";

/** Runs until it gets a SIGTERM, and ends with 0 then. */
export const WAITING = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
/** Runs until it gets a SIGKILL. */
export const DEAF = "trap '' TERM; while :; do sleep 0.1; done";

/** A shell line in a busybox container without a network. `docker` is for its DockerInfo, the rest for the TaskInfo. */
export function dockerTask(command: string, { docker = {}, ...more }: { docker?: object; [field: string]: unknown } = {}): TaskInfoInput {
  return {
    task_id: { value: `t-${randomBytes(5).toString("hex")}` },
    container: { type: "DOCKER", docker: { image: BUSYBOX_IMAGE, network: "NONE", ...docker } },
    command: { shell: true, value: command },
    ...more,
  };
}

export interface TaskContainer {
  Id: string;
  /** "created", "running", "exited" */
  State: string;
}

/** The container of a task, as Docker lists it. */
export async function containerOf(docker: Dockerd, taskId: string): Promise<TaskContainer | undefined> {
  const filters = encodeURIComponent(JSON.stringify({ label: [`berth.task-id=${taskId}`] }));
  return (await docker.api.call<TaskContainer[]>("GET", `/containers/json?all=1&filters=${filters}`))[0];
}
