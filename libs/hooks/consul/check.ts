import { formatDuration } from "@berth/duration";
import type { TaskInfo } from "@berth/mesos/task-info";

/** A service's check in Consul's API. */
export interface ConsulCheck {
  Interval: string;
  Timeout: string;
  HTTP?: string;
  TCP?: string;
  TLSSkipVerify?: boolean;
  Status: string;
  DeregisterCriticalServiceAfter?: string;
}

export interface CheckOptions {
  address: string;
  initialStatus: string;
  deregisterCriticalAfterMs?: number;
}

/** Consul makes a check with no timeout fail at once; Mesos means none by it. */
const NO_TIMEOUT_MS = 3_600_000;

/**
 * The task's HTTP or TCP health check as Consul's: same scheme, path, interval and timeout, on the check's own port as it is
 * reached from outside. A COMMAND runs where only the task's host can see it: then the service has no check.
 */
export function consulCheck(task: TaskInfo, options: CheckOptions): ConsulCheck | undefined {
  const check = task.health_check;
  if (check === undefined || check.type === "COMMAND") return undefined;
  const host = options.address.includes(":") ? `[${options.address}]` : options.address;
  const common = {
    // Consul raises intervals below one second to one second.
    Interval: formatDuration(Math.max(1, check.interval_seconds * 1000)),
    Timeout: formatDuration(check.timeout_seconds === 0 ? NO_TIMEOUT_MS : check.timeout_seconds * 1000),
    Status: options.initialStatus,
    ...(options.deregisterCriticalAfterMs === undefined
      ? {}
      : { DeregisterCriticalServiceAfter: formatDuration(options.deregisterCriticalAfterMs) }),
  };
  if (check.type === "TCP") return check.tcp && { ...common, TCP: `${host}:${outerPort(task, check.tcp.port)}` };
  if (check.http === undefined) return undefined;
  const { scheme, port, path = "/" } = check.http;
  return { ...common, HTTP: `${scheme}://${host}:${outerPort(task, port)}${path}`, ...(scheme === "https" ? { TLSSkipVerify: true } : {}) };
}

/** The host's port for a container's port; the same one where nothing is mapped. */
function outerPort(task: TaskInfo, port: number): number {
  const mappings = task.container?.docker?.port_mappings ?? [];
  return mappings.find(({ container_port, host_port }) => container_port === port && host_port !== 0)?.host_port ?? port;
}
