import { parseGoDuration, parseMesosDuration } from "@berth/duration";
import type { Host } from "./host.ts";

/** What the worker reads from its environment: the agent's words, and the few settings of its own. Durations in milliseconds. */
export interface WorkerSettings {
  executorId: string;
  frameworkId: string;
  agentId: string;
  agentEndpoint: string;
  /** On the host. */
  sandbox: string;
  checkpoint: boolean;
  recoveryTimeoutMs: number;
  backoffMaxMs: number;
  shutdownGraceMs: number;
  supervisorSocket: string;
  /** EXECUTOR_SUPERVISOR_TIMEOUT: how long a task waits for its first supervisor. */
  supervisorTimeoutMs: number;
  /** EXECUTOR_STATE_UPDATE_BUFFER_SIZE: so many updates wait for their acknowledgement before repeated ones make room. */
  updateBufferSize: number;
  /** EXECUTOR_STATE_UPDATE_WAIT_TIMEOUT: how long the last acknowledgements are waited for; undefined where it is not set, or 0. */
  updateWaitTimeoutMs: number | undefined;
}

const DEFAULT_UPDATE_BUFFER_SIZE = 1024;
const DEFAULT_SOCKET = "/run/berth/berthd.sock";

/** Reads the settings, or returns every mistake in a sentence each. */
export function workerSettings(host: Host): WorkerSettings | string[] {
  const environment = host.environment();
  const mistakes: string[] = [];
  const required = (name: string): string => {
    const value = environment[name];
    if (value === undefined || value === "") mistakes.push(`${name} is not set; the Mesos agent sets it for every executor`);
    return value ?? "";
  };
  const mesosDuration = (name: string, otherwise: number): number => {
    const text = environment[name];
    if (text === undefined || text === "") return otherwise;
    const value = parseMesosDuration(text);
    if (value === undefined) mistakes.push(`${name} is "${text}", which is no duration as Mesos writes it (5secs, 15mins)`);
    return value ?? otherwise;
  };
  const timeout = environment.EXECUTOR_SUPERVISOR_TIMEOUT ?? environment.SUPERVISOR_TIMEOUT;
  const supervisorTimeoutMs = timeout === undefined ? 60_000 : parseGoDuration(timeout);
  if (supervisorTimeoutMs === undefined || supervisorTimeoutMs < 0) {
    mistakes.push(`EXECUTOR_SUPERVISOR_TIMEOUT is "${timeout}", which is no duration (60s, 2m)`);
  }
  const settings: WorkerSettings = {
    executorId: required("MESOS_EXECUTOR_ID"),
    frameworkId: required("MESOS_FRAMEWORK_ID"),
    agentId: environment.MESOS_SLAVE_ID ?? "",
    agentEndpoint: environment.MESOS_AGENT_ENDPOINT ?? "",
    sandbox: environment.MESOS_DIRECTORY ?? environment.MESOS_SANDBOX ?? "",
    checkpoint: environment.MESOS_CHECKPOINT === "1" || environment.MESOS_CHECKPOINT === "true",
    recoveryTimeoutMs: mesosDuration("MESOS_RECOVERY_TIMEOUT", 15 * 60_000),
    backoffMaxMs: mesosDuration("MESOS_SUBSCRIPTION_BACKOFF_MAX", 2000),
    shutdownGraceMs: mesosDuration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", 5000),
    supervisorSocket: environment.BERTH_SOCKET ?? DEFAULT_SOCKET,
    supervisorTimeoutMs: supervisorTimeoutMs ?? 60_000,
    ...updateSettings(environment),
  };
  return mistakes.length > 0 ? mistakes : settings;
}

/** Both may be wrong here: the supervisor, which reads them too, refuses the task then, with a message that its framework sees. */
function updateSettings(environment: Readonly<Record<string, string>>): Pick<WorkerSettings, "updateBufferSize" | "updateWaitTimeoutMs"> {
  const read = (name: string): string | undefined =>
    environment[`EXECUTOR_${name}`] ?? environment[`ALLEGRO_EXECUTOR_${name}`] ?? environment[name];
  const size = Number(read("STATE_UPDATE_BUFFER_SIZE") || Number.NaN);
  const wait = parseGoDuration(read("STATE_UPDATE_WAIT_TIMEOUT") ?? "");
  return {
    updateBufferSize: Number.isInteger(size) && size >= 1 ? size : DEFAULT_UPDATE_BUFFER_SIZE,
    // Without any time the last update would be given up before it is sent.
    updateWaitTimeoutMs: wait !== undefined && wait > 0 ? wait : undefined,
  };
}
