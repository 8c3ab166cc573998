import type { Stage } from "@berth/hooks";
import { isTerminal, type TaskState } from "@berth/mesos";
import type { Phase, Situation } from "./situation.ts";

/** One thing to do for a task. Every step is safe to repeat. */
export type Step =
  /** Ask the runtime what is there. */
  | { kind: "inspect" }
  /** Parse, run the beforeCreate hooks, map to a create request, apply policy. */
  | { kind: "plan" }
  | { kind: "resolve-secrets" }
  | { kind: "pull" }
  | { kind: "create" }
  /** Remove a container that was created in an earlier life and never started. */
  | { kind: "discard" }
  | { kind: "hooks"; stage: Stage; until?: number }
  /** Have the worker hold a phase. */
  | { kind: "enter"; phase: Phase }
  | { kind: "start" }
  | { kind: "report-state"; state: TaskState }
  | { kind: "report-pending" }
  | { kind: "signal"; signal: "SIGTERM" | "SIGKILL" }
  /** Settle what the agent will hear, and have the worker hold it. */
  | { kind: "conclude" }
  | { kind: "copy-logs" }
  | { kind: "report-outcome" }
  | { kind: "remove" }
  | { kind: "finish" }
  /** Nothing to do before something changes, or before `until`. */
  | { kind: "wait"; why: string; until?: number };

/**
 * The next step of a task: (wanted, observed) → step. Launch, kill, crash recovery and adoption are all this one function,
 * entered with different facts. Pure; `decide.test.ts` is its table.
 */
export function decide(s: Situation): Step {
  if (s.checkpoint.phase === "ended") return wrapUp(s);
  if (s.observed === undefined) return { kind: "inspect" };
  if (s.checkpoint.stop !== undefined) return stop(s);
  switch (s.checkpoint.phase) {
    case "preparing":
      return prepare(s);
    case "starting":
      return bringUp(s);
    default:
      return keepRunning(s);
  }
}

function prepare(s: Situation): Step {
  switch (s.observed?.state) {
    case "absent":
      if (!s.planned) return { kind: "plan" };
      if (s.lastStatus === undefined) return report(s, "TASK_STARTING");
      if (!s.imageReady) return { kind: "pull" };
      if (!s.secretsResolved) return { kind: "resolve-secrets" };
      return { kind: "create" };
    case "created":
      // Its environment may hold secrets that have changed since, and its plan may be another: it is made anew.
      if (!s.createdHere) return { kind: "discard" };
      if (!through(s, "beforeStart")) return { kind: "hooks", stage: "beforeStart" };
      return { kind: "enter", phase: "starting" };
    default:
      // A container that runs or ran although no start was held: when in doubt keep, two copies are worse than a leak.
      return { kind: "enter", phase: "starting" };
  }
}

function bringUp(s: Situation): Step {
  switch (s.observed?.state) {
    case "created":
      return s.held ? { kind: "start" } : hold(s);
    case "running":
      if (!s.planned) return { kind: "plan" };
      if (!through(s, "afterStart")) return { kind: "hooks", stage: "afterStart" };
      return { kind: "enter", phase: "running" };
    case "exited":
      // It ran, if only briefly: the framework hears so before it hears of the end.
      if (s.observed.exit.startedAt !== undefined && s.lastStatus?.state !== "TASK_RUNNING" && s.worker !== "dead")
        return report(s, "TASK_RUNNING");
      return { kind: "conclude" };
    default:
      return s.absenceIsCertain ? prepare(s) : { kind: "conclude" };
  }
}

function keepRunning(s: Situation): Step {
  if (s.observed?.state !== "running") {
    if (s.observed?.state === "exited" && s.lastStatus?.state !== "TASK_RUNNING" && s.worker !== "dead") return report(s, "TASK_RUNNING");
    return { kind: "conclude" };
  }
  if (!s.planned) return { kind: "plan" };
  if (s.lastStatus?.state !== "TASK_RUNNING") return report(s, "TASK_RUNNING");
  if (s.pendingReport !== undefined) return s.worker === "connected" ? { kind: "report-pending" } : away();
  if (s.healthy && !through(s, "afterHealthy")) return { kind: "hooks", stage: "afterHealthy" };
  return { kind: "wait", why: "the task runs" };
}

function stop(s: Situation): Step {
  const stop = s.checkpoint.stop as NonNullable<Situation["checkpoint"]["stop"]>;
  if (s.observed?.state !== "running") return { kind: "conclude" };
  if (s.checkpoint.phase !== "stopping") return { kind: "enter", phase: "stopping" };
  if (!s.held) return hold(s);
  if (s.worker === "connected") {
    // The verdict that led here is heard before what it led to.
    if (s.pendingReport !== undefined && s.lastStatus?.state !== "TASK_KILLING") return { kind: "report-pending" };
    // A task over its completion time is ended without notice, as Mesos's own executors do.
    const announced = s.takesKilling && stop.cause !== "max-completion-time";
    if (announced && s.lastStatus?.state !== "TASK_KILLING") return report(s, "TASK_KILLING");
  }
  if (stop.signalledAt === undefined) {
    if (!through(s, "beforeStop") && s.now < stop.signalBy) return { kind: "hooks", stage: "beforeStop", until: stop.signalBy };
    return { kind: "signal", signal: stop.gracePeriodMs === 0 ? "SIGKILL" : "SIGTERM" };
  }
  const killAt = stop.signalledAt + stop.gracePeriodMs;
  if (stop.killedAt === undefined) {
    return s.now >= killAt ? { kind: "signal", signal: "SIGKILL" } : { kind: "wait", why: "the grace period runs", until: killAt };
  }
  // A container that outlives SIGKILL (a hung dockerd, an unkillable process): look and kill again, do not give up.
  const again = stop.killedAt + KILL_AGAIN_MS;
  return s.now >= again ? { kind: "signal", signal: "SIGKILL" } : { kind: "wait", why: "the process has not ended yet", until: again };
}

function wrapUp(s: Situation): Step {
  if (!s.held) return hold(s);
  if (s.checkpoint.startedAt !== undefined && !through(s, "beforeStop")) return { kind: "hooks", stage: "beforeStop" };
  if (!s.cleanedUp) return { kind: "hooks", stage: "afterStop" };
  if (!s.logsCopied) return { kind: "copy-logs" };
  if (s.worker !== "dead") {
    if (s.lastStatus === undefined || !isTerminal(s.lastStatus.state))
      return s.worker === "connected" ? { kind: "report-outcome" } : away();
    if (!s.terminalAcknowledged) return { kind: "wait", why: "the agent has not acknowledged the terminal update yet" };
  }
  if (s.removed) return { kind: "finish" };
  return { kind: "remove" };
}

function through(s: Situation, stage: Stage): boolean {
  return s.checkpoint.stages.includes(stage);
}

function report(s: Situation, state: TaskState): Step {
  return s.worker === "connected" ? { kind: "report-state", state } : away();
}

function hold(s: Situation): Step {
  return { kind: "wait", why: s.worker === "away" ? "the worker is away" : "the worker has not held the checkpoint yet" };
}

function away(): Step {
  return { kind: "wait", why: "the worker is away" };
}

/** How long after a SIGKILL another is sent to a process that is still there, in milliseconds. */
export const KILL_AGAIN_MS = 10_000;
