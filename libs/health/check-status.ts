import type { CheckStatus } from "@berth/mesos";
import type { CheckInfo } from "@berth/mesos/task-info";
import type { Outcome } from "./outcome.ts";

/** What a `check` reports: only facts, no verdict. A check that failed to give one, or timed out, has an empty status. */
export function checkStatus(type: CheckInfo["type"], outcome: Outcome): CheckStatus {
  switch (type) {
    case "COMMAND":
      return { type, command: outcome.kind === "command" ? { exit_code: outcome.exitCode } : {} };
    case "HTTP":
      return { type, http: outcome.kind === "http" ? { status_code: outcome.status } : {} };
    case "TCP":
      return { type, tcp: outcome.kind === "tcp" ? { succeeded: true } : outcome.kind === "refused" ? { succeeded: false } : {} };
  }
}

export function sameStatus(one: CheckStatus, other: CheckStatus): boolean {
  return (
    one.command?.exit_code === other.command?.exit_code &&
    one.http?.status_code === other.http?.status_code &&
    one.tcp?.succeeded === other.tcp?.succeeded
  );
}
