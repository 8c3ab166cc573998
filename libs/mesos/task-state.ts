/** The states that an executor reports (Mesos v1 `TaskState`); the agent and the master own the others. */
export type TaskState =
  /** The executor has taken the task and prepares it: hooks, secrets, image. */
  | "TASK_STARTING"
  /** The task's process runs. Sent again when its health changes. */
  | "TASK_RUNNING"
  /** A kill was taken and the grace period runs; only for frameworks with the TASK_KILLING_STATE capability. */
  | "TASK_KILLING"
  | TerminalState;

export type TerminalState =
  /** It ended by itself with exit code 0. */
  | "TASK_FINISHED"
  /** It ended any other way that nobody asked for, or could not be started. */
  | "TASK_FAILED"
  /** It was stopped on request. */
  | "TASK_KILLED"
  /** Its TaskInfo is invalid: launching it again cannot help. */
  | "TASK_ERROR";

export const TERMINAL_STATES: readonly TerminalState[] = ["TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR"];

/** Whether a task in this state is over: no update may follow. */
export function isTerminal(state: string): state is TerminalState {
  return (TERMINAL_STATES as readonly string[]).includes(state);
}
