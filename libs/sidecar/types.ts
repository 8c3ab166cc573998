/** What the Sidecar reader is asked and what it tells. Everything here survives structured clone: it crosses threads. */

/** Sidecar's states of a service, in the order of its numbers 0 to 4. */
export const SERVICE_STATUSES = ["ALIVE", "TOMBSTONE", "UNHEALTHY", "UNKNOWN", "DRAINING"] as const;
export type ServiceStatus = (typeof SERVICE_STATUSES)[number];

export interface SidecarSettings {
  /** SidecarUrl: the state document. For watch and drain only its scheme, host and port are used. */
  url: string;
  /** Of each request, milliseconds. */
  timeoutMs: number;
  /**
   * Follow /api/watch instead of polling for as long as it says less than polling would; false always polls. Where Sidecar does not
   * offer it, polling it is.
   */
  watch: boolean;
  /** A larger state is not read (counted as unreachable). Default 64 MiB. */
  maxStateBytes?: number;
}

export interface WatchTask {
  taskKey: string;
  /** First 12 digits of the container's id. */
  serviceId: string;
  /** This host's key in the state's `Servers`: TASK_HOST, else MESOS_HOSTNAME, else the agent's hostname. */
  hostKey: string;
  /** Milliseconds from the container's start in which nothing is judged. */
  backoffMs: number;
  pollIntervalMs: number;
  /** Affirmed failures that end the task. */
  maxFails: number;
  /** How long the container has run already, milliseconds; not by a clock that somebody may set. */
  ageMs: number;
  /** What an earlier supervisor had counted (from `Verdict.failures`). */
  failures?: number;
  failingSince?: number;
}

/** Told when a task's health or status changes, when a failure is counted, when nothing is known any more, and once with `fatal`. */
export interface Verdict {
  taskKey: string;
  /** What was affirmed last: true until Sidecar has said otherwise. */
  healthy: boolean;
  /** Undefined while Sidecar does not know the service or cannot be asked: the task is assumed healthy. */
  status?: ServiceStatus;
  /** Since when the status is what it is, as seen from here; milliseconds since the epoch. */
  since: number;
  /** For the checkpoint. */
  failures: number;
  /** The failures reached `maxFails`: the task must be ended, without a drain. Told once. */
  fatal: boolean;
  /** For the status message and `berth inspect`. */
  message: string;
}

export interface DrainRequest {
  taskKey: string;
  serviceId: string;
  /** Attempts after the first that failed. */
  retryCount: number;
  retryDelayMs: number;
  /** SidecarDrainingDuration; 0 skips the drain. */
  durationMs: number;
  /** When the drain began, milliseconds since the epoch: a drain that is taken up again does not wait from the start. */
  beganAt: number;
  /**
   * Sidecar has been seen to know the service: it is insisted, and waited for although it is not accepted. Otherwise a service that
   * Sidecar does not know, or a Sidecar that never was there, has no clients to wait for.
   */
  known: boolean;
  /** The request was accepted by an earlier supervisor's drain: only the rest of the wait is left. */
  requested?: boolean;
}

export interface DrainResult {
  /** Sidecar has accepted it. */
  accepted: boolean;
  /** The wait was over, or was cut short by the signal. */
  completed: boolean;
  /** Why Sidecar did not accept it. */
  problem?: string;
}

export interface SeedsRequest {
  /** "host:port" of the agent. */
  agentEndpoint: string;
  scheme?: "http" | "https";
  /** MesosMasterPort; empty for none. */
  masterPort: string;
  /** Basic credentials for agent and master, where they ask for them. */
  credentials?: { principal: string; secret: string };
  /** PEM. */
  ca?: string;
  /** False takes any certificate, as executors of an agent that checks none do. Default true. */
  verify?: boolean;
}

export interface SidecarStatus {
  url: string;
  /** How the state is got. */
  mode: "idle" | "poll" | "watch";
  /** True until an attempt has failed. */
  reachable: boolean;
  since: number;
  problem?: string;
  /** Milliseconds since the epoch of the last state that could be used. */
  lastState?: number;
  requests: number;
  /** States that were parsed; others were known to be the same. */
  parsed: number;
  bytes: number;
  tasks: Array<{ taskKey: string; serviceId: string; status?: ServiceStatus; failures: number; message: string }>;
  draining: number;
}

export interface ThreadLogLine {
  level: "debug" | "info" | "warn";
  fields: object;
  message: string;
}

/** What came of asking Sidecar to drain a service. `pointless`: nobody can have been sent to it. */
export interface DrainAnswer {
  accepted: boolean;
  problem?: string;
  pointless?: boolean;
}

/** What the Sidecar thread answers to. */
export interface SidecarThreadMethods {
  watch(task: WatchTask): void;
  unwatch(request: { taskKey: string }): void;
  requestDrain(
    request: Pick<DrainRequest, "serviceId" | "retryCount" | "retryDelayMs" | "known">,
    signal?: AbortSignal,
  ): Promise<DrainAnswer>;
  seeds(request: SeedsRequest, signal?: AbortSignal): Promise<string[]>;
  status(request: undefined): Omit<SidecarStatus, "draining">;
}
