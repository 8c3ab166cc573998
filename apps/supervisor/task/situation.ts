import type { Stage } from "@berth/hooks";
import type { RequestedUpdate, TaskRecord } from "@berth/protocol";
import type { Exit, Observed } from "@berth/runtime";
import type { Outcome } from "./outcome.ts";
import type { Stop } from "./stop.ts";

/**
 * How far a task has come, as kept in its checkpoint. Each value is held by the worker *before* the first irreversible step
 * that it allows, so that a supervisor which comes back knows what may already have happened.
 */
export type Phase =
  /** Nothing irreversible was done. A container that exists was never started and is made anew. */
  | "preparing"
  /** The container may have been started; if it is missing now, it vanished. It is never started from a second container. */
  | "starting"
  /** TASK_RUNNING was asked for. */
  | "running"
  /** A stop was decided (`stop` says why and until when); the first signal may have been sent. */
  | "stopping"
  /** The process is over, or will never be; `outcome` is what the agent will hear. */
  | "ended";

/** What the worker holds for the supervisor. JSON, version 1; old versions are kept readable (see fixtures). */
export interface Checkpoint {
  version: 1;
  phase: Phase;
  /** Container id, once created. */
  id?: string;
  /** Of the main process, where it can be found without the engine. */
  pid?: number;
  startedAt?: number;
  stop?: Stop;
  exit?: Exit;
  outcome?: Outcome;
  /** Start stages that are through, so that a supervisor which comes back does not repeat what only runs once. */
  stages: Stage[];
  /** By hook name. */
  hookStates: Record<string, unknown>;
  healthy?: boolean;
  /** Lease records of dynamic secrets, to renew and revoke (ids, never values). */
  leases?: unknown[];
  /** Log positions; opaque to the reconciler. */
  logs?: unknown;
}

export const FRESH_CHECKPOINT: Checkpoint = { version: 1, phase: "preparing", stages: [], hookStates: {} };

/** The worker of a task, as the supervisor sees it. */
export type WorkerPresence =
  /** Its socket is open. */
  | "connected"
  /** Its socket is closed and its process lives, or cannot be checked yet. */
  | "away"
  /** Its process is gone: nobody hears updates, and what it left must be stopped. */
  | "dead";

/** Everything that the decision about a task's next step depends on. */
export interface Situation {
  now: number;
  checkpoint: Checkpoint;
  /** The worker holds the newest checkpoint (or is dead, so that holding has no meaning). */
  held: boolean;
  worker: WorkerPresence;
  /** undefined: not looked at yet, or not since the runtime was last out of sight. */
  observed: Observed | undefined;
  /** Facts of this supervisor's own life; they start false after a restart. */
  planned: boolean;
  secretsResolved: boolean;
  imageReady: boolean;
  /** The container that is observed was created by this supervisor from the present plan. */
  createdHere: boolean;
  /** The runtime knows for certain that what is absent was never started (a worker knows its children), so a start may be made up for. */
  absenceIsCertain: boolean;
  /** afterStop hooks have run in this life. */
  cleanedUp: boolean;
  logsCopied: boolean;
  removed: boolean;
  /** The last update that the worker is known to have taken. */
  lastStatus: TaskRecord["lastStatus"];
  terminalAcknowledged: boolean;
  takesKilling: boolean;
  /** The task is healthy, or nothing checks it: afterHealthy may run. */
  healthy: boolean;
  /** An update that health or checks want sent (TASK_RUNNING with `healthy` or `checkStatus`). */
  pendingReport?: RequestedUpdate;
  /** Keep the container of a failed task until this time, milliseconds since the epoch. */
  keepUntil?: number;
}
