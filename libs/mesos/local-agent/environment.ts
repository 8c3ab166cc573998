import type { ResolvedOptions } from "./options.ts";

/** What the agent knows when it starts an executor. */
export interface EnvironmentFacts {
  frameworkId: string;
  executorId: string;
  agentId: string;
  /** `host:port` of the TCP endpoint. */
  endpoint: string;
  sandbox: string;
  shutdownGraceMs: number;
  token: string | undefined;
  domainSocketPath: string | undefined;
  /** Variables of the ExecutorInfo's command: they win over everything. */
  command: Record<string, string>;
}

/**
 * An executor's environment, complete: nothing is inherited, not even PATH. Source: slave.cpp `executorEnvironment` and the
 * containerizer; checked against environments recorded from a real agent (without MESOS_NATIVE_LIBRARY, which names the
 * agent's own libmesos).
 */
export function executorEnvironment(facts: EnvironmentFacts, options: ResolvedOptions): Record<string, string> {
  return {
    ...options.executorEnvironment,
    LIBPROCESS_IP: "127.0.0.1",
    LIBPROCESS_PORT: "0",
    MESOS_AGENT_ENDPOINT: facts.endpoint,
    MESOS_CHECKPOINT: options.checkpoint ? "1" : "0",
    MESOS_DIRECTORY: facts.sandbox,
    MESOS_EXECUTOR_ID: facts.executorId,
    MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD: formatMesosDuration(facts.shutdownGraceMs),
    MESOS_FRAMEWORK_ID: facts.frameworkId,
    MESOS_HTTP_COMMAND_EXECUTOR: "0",
    MESOS_SANDBOX: facts.sandbox,
    MESOS_SLAVE_ID: facts.agentId,
    MESOS_SLAVE_PID: `slave(1)@${facts.endpoint}`,
    ...(options.checkpoint
      ? {
          MESOS_RECOVERY_TIMEOUT: formatMesosDuration(options.recoveryTimeoutMs),
          MESOS_SUBSCRIPTION_BACKOFF_MAX: formatMesosDuration(options.reregistrationTimeoutMs),
        }
      : {}),
    ...(facts.domainSocketPath === undefined ? {} : { MESOS_DOMAIN_SOCKET: facts.domainSocketPath }),
    ...(facts.token === undefined ? {} : { MESOS_EXECUTOR_AUTHENTICATION_TOKEN: facts.token }),
    ...facts.command,
  };
}

const UNITS = [
  ["weeks", 604_800_000],
  ["days", 86_400_000],
  ["hrs", 3_600_000],
  ["mins", 60_000],
  ["secs", 1_000],
  ["ms", 1],
] as const;

/** Writes milliseconds as Mesos prints them: in the largest unit that gives a whole number, always plural ("1mins", "90secs"). */
export function formatMesosDuration(milliseconds: number): string {
  if (milliseconds === 0) return "0ns";
  for (const [unit, size] of UNITS) {
    if (milliseconds % size === 0) return `${milliseconds / size}${unit}`;
  }
  return `${Math.round(milliseconds * 1e6)}ns`;
}
