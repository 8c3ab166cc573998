/** Who asked for a stop. The first cause decides the terminal state, later ones only shorten the deadline. */
export type StopCause =
  | "framework-kill"
  | "shutdown"
  | "worker-signal"
  | "operator"
  | "certificate-expiry"
  | "unhealthy"
  | "sidecar-unhealthy"
  | "max-completion-time"
  | "lease-ended"
  | "group"
  | "hook-failure"
  | "worker-died"
  /** No supervisor was there in time, and the worker told the end by itself. */
  | "worker-gave-up";

export interface Stop {
  cause: StopCause;
  /** For the status message: why, in a sentence without a full stop. */
  message: string;
  requestedAt: number;
  /** From the first SIGTERM to the SIGKILL. */
  gracePeriodMs: number;
  /** Everything before the first SIGTERM (deregistration, drain) ends here at the latest. */
  signalBy: number;
  /** When the first SIGTERM was sent; the SIGKILL follows `gracePeriodMs` later. */
  signalledAt?: number;
  killedAt?: number;
}
