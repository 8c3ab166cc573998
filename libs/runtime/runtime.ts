import type { TaskInfo } from "@berth/mesos/task-info";

/** The four ids that name one run of one task on this host. */
export interface TaskIdentity {
  frameworkId: string;
  executorId: string;
  /** The Mesos ContainerID of the executor that runs the task. */
  containerId: string;
  taskId: string;
}

/** Everything that decides what will be started for a task, before secrets and hooks. */
export interface PlanInput<TaskOptions> {
  identity: TaskIdentity;
  task: TaskInfo;
  /** The executor's environment, without the agent's token. */
  executorEnvironment: Readonly<Record<string, string>>;
  /** The executor's command line flags (Mesos's docker executor's own, where Berth stands in for it). */
  executorArguments: readonly string[];
  sandbox: string;
  agentHostname: string;
  /** Name, pid and start time of the worker, for the labels that let the reaper finish when both processes are gone. */
  worker: { pid: number; startTime?: string };
  options: TaskOptions;
}

/** How a task's process looks from outside, as last seen by its runtime. */
export type Observed =
  /** `why`: where that is not simply that nobody knows of it; for a status message. */
  | { state: "absent"; why?: string }
  | { state: "created"; id: string }
  | { state: "running"; id: string; pid: number; startedAt: number; addresses: Address[] }
  | { state: "exited"; id: string; exit: Exit };

export interface Address {
  /** The network's name as the runtime calls it ("bridge"). */
  network: string;
  protocol: "IPv4" | "IPv6";
  address: string;
}

/** How a task's main process ended. */
export interface Exit {
  /** As the shell would see it: 128 + n for signal n. */
  exitCode: number;
  oomKilled: boolean;
  startedAt?: number;
  finishedAt: number;
  /** The runtime's own words when the process could not be run at all. */
  error?: string;
}
