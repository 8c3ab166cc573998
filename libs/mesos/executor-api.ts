/**
 * The Mesos v1 executor HTTP API in JSON: calls that an executor makes and events that the agent sends. Field names are the
 * proto's. Source of every shape: mesos/v1/executor/executor.proto and the agent's own behaviour (docs/mesos-conformance.md).
 *
 * Types only: the worker passes TaskInfos on untouched and looks at a few fields, so nothing is parsed here. Code that reads a
 * TaskInfo parses it with `@berth/mesos/task-info`.
 */
import type { TaskState } from "./task-state.ts";

export interface Id {
  value: string;
}

/** `TaskStatus` as an executor sends it. `uuid` is 16 bytes of a version 4 UUID in standard base64. */
export interface StatusUpdate {
  task_id: Id;
  state: TaskState;
  /** The proto's default is SOURCE_MASTER, and the agent refuses anything but this. */
  source: "SOURCE_EXECUTOR";
  uuid: string;
  executor_id: Id;
  agent_id?: Id;
  /** Seconds since the epoch, with fractions. */
  timestamp: number;
  message?: string;
  reason?: string;
  healthy?: boolean;
  /** Base64. */
  data?: string;
  labels?: { labels: Array<{ key: string; value?: string }> };
  container_status?: ContainerStatus;
  check_status?: CheckStatus;
}

export interface ContainerStatus {
  container_id?: Id;
  network_infos?: Array<{ ip_addresses: Array<{ protocol: "IPv4" | "IPv6"; ip_address: string }>; name?: string }>;
  executor_pid?: number;
}

export interface CheckStatus {
  type: "COMMAND" | "HTTP" | "TCP";
  command?: { exit_code?: number };
  http?: { status_code?: number };
  tcp?: { succeeded?: boolean };
}

/** A TaskInfo that nobody has looked into yet: only its id is relied on. */
export interface OpaqueTaskInfo {
  task_id: Id;
  [field: string]: unknown;
}

interface CallHead {
  executor_id: Id;
  framework_id: Id;
}

export type Call = CallHead &
  (
    | { type: "SUBSCRIBE"; subscribe: { unacknowledged_tasks: OpaqueTaskInfo[]; unacknowledged_updates: Array<{ status: StatusUpdate }> } }
    | { type: "UPDATE"; update: { status: StatusUpdate } }
    | { type: "MESSAGE"; message: { data: string } }
    | { type: "HEARTBEAT" }
  );

export interface SubscribedEvent {
  executor_info?: { executor_id?: Id; type?: string; [field: string]: unknown };
  framework_info?: {
    id?: Id;
    name?: string;
    user?: string;
    principal?: string;
    checkpoint?: boolean;
    capabilities?: Array<{ type: string }>;
    [field: string]: unknown;
  };
  agent_info?: { id?: Id; hostname?: string; port?: number; [field: string]: unknown };
  container_id?: Id;
}

/** Events of the agent's stream. An event of an unknown type must be ignored: newer agents may send more. */
export type Event =
  | { type: "SUBSCRIBED"; subscribed: SubscribedEvent }
  | { type: "LAUNCH"; launch: { task: OpaqueTaskInfo } }
  | { type: "LAUNCH_GROUP"; launch_group: { task_group: { tasks: OpaqueTaskInfo[] } } }
  | { type: "KILL"; kill: { task_id: Id; kill_policy?: { grace_period?: { nanoseconds: number } } } }
  | { type: "ACKNOWLEDGED"; acknowledged: { task_id: Id; uuid: string } }
  | { type: "MESSAGE"; message: { data?: string } }
  | { type: "SHUTDOWN" }
  | { type: "ERROR"; error: { message?: string } }
  | { type: "HEARTBEAT" };
