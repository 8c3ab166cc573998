import { formatDuration } from "@berth/duration";
import type { TaskStatusReason, TerminalState } from "@berth/mesos";
import type { Exit } from "@berth/runtime";
import type { Stop, StopCause } from "./stop.ts";

/** What the agent hears at a task's end. */
export interface Outcome {
  state: TerminalState;
  message: string;
  reason?: TaskStatusReason;
  healthy?: boolean;
}

/** How exit codes of a task become states: Berth's own table, or the one that sidecar-executor's users rely on. */
export type ExitStates = "berth" | "sidecar-executor";

export interface ExitContext {
  exit: Exit;
  stop: Stop | undefined;
  exitStates: ExitStates;
  /** What exit 0 is: FINISHED, but FAILED for command tasks of those who rely on allegro's executor. */
  successState: "TASK_FINISHED" | "TASK_FAILED";
  /** For the message of an out-of-memory kill. */
  memoryLimitBytes: number | undefined;
  /** "container" or "process". */
  noun: string;
}

/** Stops that somebody outside asked for end a task as KILLED; the supervisor's own verdicts on it end it as FAILED. */
const STATE_OF_STOP: Record<StopCause, TerminalState> = {
  "framework-kill": "TASK_KILLED",
  shutdown: "TASK_KILLED",
  "worker-signal": "TASK_KILLED",
  operator: "TASK_KILLED",
  "certificate-expiry": "TASK_KILLED",
  group: "TASK_KILLED",
  unhealthy: "TASK_KILLED",
  "sidecar-unhealthy": "TASK_FAILED",
  "max-completion-time": "TASK_FAILED",
  "lease-ended": "TASK_FAILED",
  "hook-failure": "TASK_FAILED",
  "worker-died": "TASK_FAILED",
  "worker-gave-up": "TASK_FAILED",
};

const REASON_OF_STOP: Partial<Record<StopCause, TaskStatusReason>> = {
  "max-completion-time": "REASON_MAX_COMPLETION_TIME_REACHED",
  unhealthy: "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED",
  "hook-failure": "REASON_CONTAINER_LAUNCH_FAILED",
  "worker-died": "REASON_EXECUTOR_TERMINATED",
};

const SIGNAL_NAMES: Record<number, string> = {
  1: "SIGHUP",
  2: "SIGINT",
  3: "SIGQUIT",
  4: "SIGILL",
  5: "SIGTRAP",
  6: "SIGABRT",
  7: "SIGBUS",
  8: "SIGFPE",
  9: "SIGKILL",
  10: "SIGUSR1",
  11: "SIGSEGV",
  12: "SIGUSR2",
  13: "SIGPIPE",
  14: "SIGALRM",
  15: "SIGTERM",
  24: "SIGXCPU",
  25: "SIGXFSZ",
  31: "SIGSYS",
};

/** The outcome of a task whose process ran and ended. The first cause wins: a kill that was under way beats any exit code. */
export function outcomeOfExit(context: ExitContext): Outcome {
  if (context.exitStates === "sidecar-executor") return byExitCodeAlone(context);
  const { exit, stop } = context;
  if (stop !== undefined) return outcomeOfStop(stop, describeExit(context));
  if (exit.oomKilled) return { state: "TASK_FAILED", reason: "REASON_CONTAINER_LIMITATION_MEMORY", message: describeExit(context) };
  if (exit.exitCode === 0) return { state: context.successState, message: describeExit(context) };
  return { state: "TASK_FAILED", reason: "REASON_COMMAND_EXECUTOR_FAILED", message: describeExit(context) };
}

/** The outcome of a task that was stopped; `ending` tells how its process took it. */
export function outcomeOfStop(stop: Stop, ending: string): Outcome {
  const reason = REASON_OF_STOP[stop.cause];
  return {
    state: STATE_OF_STOP[stop.cause],
    message: `${stop.message}; ${ending}`,
    ...(reason === undefined ? {} : { reason }),
    ...(stop.cause === "unhealthy" || stop.cause === "sidecar-unhealthy" ? { healthy: false } : {}),
  };
}

/** The outcome of a container that is gone without an exit status: somebody removed it behind our back. */
export function outcomeOfVanishing(stop: Stop | undefined, name: string, why?: string): Outcome {
  const ending = why ?? `container ${name} was removed by someone else before its exit status could be read`;
  if (stop !== undefined) return outcomeOfStop(stop, ending);
  return {
    state: "TASK_FAILED",
    reason: "REASON_COMMAND_EXECUTOR_FAILED",
    message: `container ${name} vanished: it was removed by someone else, its exit status is unknown`,
  };
}

/** sidecar-executor's table: 0 FINISHED, 129–165 KILLED, everything else FAILED, whatever the cause. */
function byExitCodeAlone(context: ExitContext): Outcome {
  const { exitCode } = context.exit;
  const message = context.stop === undefined ? describeExit(context) : `${context.stop.message}; ${describeExit(context)}`;
  if (exitCode === 0) return { state: "TASK_FINISHED", message };
  return { state: exitCode >= 129 && exitCode <= 165 ? "TASK_KILLED" : "TASK_FAILED", message };
}

/** How the process ended, for a person: "container exited with 137: killed by SIGKILL after the 5s grace period". */
export function describeExit({ exit, stop, memoryLimitBytes, noun }: ExitContext): string {
  if (exit.error !== undefined && exit.error !== "") return `${noun} could not run: ${exit.error} (exit code ${exit.exitCode})`;
  const head = `${noun} exited with ${exit.exitCode}`;
  if (exit.oomKilled) {
    return `${head}: OOM killed${memoryLimitBytes === undefined ? "" : ` at ${formatMemory(memoryLimitBytes)}`}`;
  }
  const signal = exit.exitCode > 128 ? exit.exitCode - 128 : undefined;
  const name = signal === undefined ? undefined : SIGNAL_NAMES[signal];
  if (name === undefined) return head;
  if (stop?.killedAt !== undefined && signal === 9) {
    return stop.gracePeriodMs === 0
      ? `${head}: killed by SIGKILL without a grace period`
      : `${head}: killed by SIGKILL after the ${formatDuration(stop.gracePeriodMs)} grace period`;
  }
  if (stop?.signalledAt !== undefined && signal === 15) return `${head}: ended by SIGTERM within the grace period`;
  return stop === undefined ? `${head}: killed by ${name}, which Berth did not send` : `${head}: ended by ${name}`;
}

function formatMemory(bytes: number): string {
  const mebibytes = bytes / 1024 / 1024;
  return `${Number(mebibytes.toFixed(1))} MiB`;
}
