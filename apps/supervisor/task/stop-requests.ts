import type { Wanted } from "@berth/protocol";
import type { Stop, StopCause } from "./stop.ts";

/** Shutdown grace period of an agent that names none, milliseconds (the agent's own default). */
const SHUTDOWN_GRACE_MS = 5000;
/** What is left of it for the terminal update after the process is gone: Mesos's own executors keep the same reserve. */
const SHUTDOWN_RESERVE_MS = 2000;
/** What deregistration gets before the first signal of a shutdown. */
const SHUTDOWN_HOOKS_MS = 500;

/** Somebody wants the task stopped. */
export interface StopRequest {
  cause: StopCause;
  message: string;
  gracePeriodMs: number;
  /** Tells one request from another: a worker repeats the same one in every hello. */
  requestedAt: number;
  /** Only a shutdown leaves no time for drains; any other stop gives them theirs. */
  signalBy?: number;
}

/** What the framework or the agent wants, as the worker tells it. `now` bounds a time of the worker's that lies in the future. */
export function stopRequestOf(wanted: Wanted, { defaultGraceMs, now }: { defaultGraceMs: number; now: number }): StopRequest {
  const { gracePeriodMs: given, receivedAt: requestedAt } = wanted;
  if (wanted.kind === "shutdown") {
    // Mesos kills the executor when its grace period is over; a part of it is for the terminal update's way to the agent.
    const budget = Math.max(0, (given ?? SHUTDOWN_GRACE_MS) - SHUTDOWN_RESERVE_MS);
    const gracePeriodMs = Math.min(defaultGraceMs, Math.max(0, budget - SHUTDOWN_HOOKS_MS));
    const signalBy = Math.min(requestedAt, now) + budget - gracePeriodMs;
    return { cause: "shutdown", message: "the agent shut the executor down", gracePeriodMs, requestedAt, signalBy };
  }
  const cause: StopCause = wanted.cause === "signal" ? "worker-signal" : "framework-kill";
  const message = cause === "worker-signal" ? "the executor was told to end by SIGTERM" : "killed on request of the framework";
  return { cause, message, gracePeriodMs: given ?? defaultGraceMs, requestedAt };
}

/**
 * The stop that a task is in after a request; undefined when it changes nothing. The first cause stays; a later request can only
 * make the end come sooner: a shorter grace period also ends what is waited for before the first signal, a mere repetition (some
 * frameworks send their kill every few seconds) does not.
 */
export function mergeStop(
  before: Stop | undefined,
  request: StopRequest,
  { now, drainMs }: { now: number; drainMs: number },
): Stop | undefined {
  const { cause, message, gracePeriodMs, requestedAt } = request;
  if (before === undefined) {
    const signalBy = request.signalBy ?? Math.min(requestedAt, now) + drainMs;
    return { cause, message, requestedAt, gracePeriodMs, signalBy };
  }
  if (before.requestedAt === requestedAt) return undefined;
  const shorter = gracePeriodMs < before.gracePeriodMs;
  const signalBy = Math.min(before.signalBy, request.signalBy ?? (shorter ? now : before.signalBy));
  if (!shorter && signalBy === before.signalBy) return undefined;
  return { ...before, gracePeriodMs: Math.min(before.gracePeriodMs, gracePeriodMs), signalBy };
}

/** The same stop after the host's clock was set: its deadlines are moved along, so that it takes neither longer nor less long. */
export function shiftStop(stop: Stop, byMs: number): Stop {
  return {
    ...stop,
    signalBy: stop.signalBy + byMs,
    ...(stop.signalledAt === undefined ? {} : { signalledAt: stop.signalledAt + byMs }),
    ...(stop.killedAt === undefined ? {} : { killedAt: stop.killedAt + byMs }),
  };
}
