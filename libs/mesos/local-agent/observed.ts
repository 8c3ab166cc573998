import type { ContainerStatus, Id } from "../executor-api.ts";

/**
 * A status update as the scheduler sees it: the executor's, with what the agent fills in, or one that the agent invented
 * (`source` SOURCE_AGENT: the executor died, did not come back, never got the task).
 */
export interface ObservedStatus {
  task_id: Id;
  state: string;
  source: "SOURCE_EXECUTOR" | "SOURCE_AGENT";
  uuid: string;
  agent_id: Id;
  executor_id: Id;
  /** Seconds since the epoch, with fractions. */
  timestamp: number;
  message?: string;
  reason?: string;
  healthy?: boolean;
  /** Base64. */
  data?: string;
  labels?: { labels: Array<{ key: string; value?: string }> };
  container_status?: ContainerStatus;
  check_status?: { type: string; [field: string]: unknown };
  [field: string]: unknown;
}

/** The FAILURE event that the scheduler gets when an executor ends. */
export interface ExecutorFailure {
  executorId: string;
  agentId: string;
  /** Wait status as of wait(2): exit code * 256, or the number of the signal. */
  status: number;
}

const TERMINAL = new Set(
  ["FINISHED", "FAILED", "KILLED", "ERROR", "LOST", "DROPPED", "GONE", "GONE_BY_OPERATOR"].map((name) => `TASK_${name}`),
);

/** Whether the agent takes no further update of a task in this state. */
export function isTerminalForAgent(state: string): boolean {
  return TERMINAL.has(state);
}
