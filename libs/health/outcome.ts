/** What one check found. A check that could not be made says nothing of the task: it is neither a success nor a failure. */
export type Outcome =
  | { kind: "command"; exitCode: number; output: string }
  /** The status of the last response, after redirects. */
  | { kind: "http"; status: number; url: string }
  | { kind: "tcp"; connected: true }
  /** The task did not answer as it should: refused, reset, not HTTP. */
  | { kind: "refused"; why: string }
  | { kind: "timeout"; afterMs: number }
  /** Not the task's fault: no docker answer, no process to enter. */
  | { kind: "unknown"; why: string };

/** The verdict on an outcome: why it is a failure, `healthy`, or `unknown`. */
export type Judgement = { verdict: "healthy" } | { verdict: "unhealthy"; why: string } | { verdict: "unknown"; why: string };

/**
 * Judges as Mesos does: exit code 0, a connection, a status from 200 to 399. `statuses`, where given, replaces that range (Mesos
 * leaves it to custom executors).
 */
export function judge(outcome: Outcome, statuses: readonly number[] = []): Judgement {
  switch (outcome.kind) {
    case "command": {
      if (outcome.exitCode === 0) return { verdict: "healthy" };
      const output = lastLine(outcome.output);
      return unhealthy(`the command ended with exit code ${outcome.exitCode}${output === "" ? "" : `: ${output}`}`);
    }
    case "http": {
      const ok = statuses.length > 0 ? statuses.includes(outcome.status) : outcome.status >= 200 && outcome.status < 400;
      return ok ? { verdict: "healthy" } : unhealthy(`${outcome.url} answered with status ${outcome.status}`);
    }
    case "tcp":
      return { verdict: "healthy" };
    case "refused":
      return unhealthy(outcome.why);
    case "timeout":
      return unhealthy(`no result within ${outcome.afterMs / 1000} s`);
    case "unknown":
      return { verdict: "unknown", why: outcome.why };
  }
}

function unhealthy(why: string): Judgement {
  return { verdict: "unhealthy", why };
}

/** Status messages are shown in lists: one line of the command's output has to do. */
const MAX_LINE = 200;

function lastLine(output: string): string {
  const line = output.trimEnd().split("\n").at(-1)?.trim() ?? "";
  return line.length > MAX_LINE ? `${line.slice(0, MAX_LINE)}…` : line;
}
