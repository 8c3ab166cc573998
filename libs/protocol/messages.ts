/**
 * The messages of Berth's unix socket between a worker (one per Mesos executor) and the supervisor (one per host), version 1.
 * Each is one JSON object in one RecordIO frame; docs/protocol.md tells the conversation. Types only, host-independent.
 *
 * Conventions: every message after `hello`/`welcome` names its task unless it concerns the whole executor; times are
 * milliseconds since the epoch, durations milliseconds; ids are plain strings, not Mesos `{value}` objects.
 */
import type { CheckStatus, ContainerStatus, OpaqueTaskInfo, TaskState, TaskStatusReason, TerminalState } from "@berth/mesos";

/** The protocol versions that this build speaks, newest first. A supervisor also serves workers one version back. */
export const PROTOCOL_VERSIONS: readonly number[] = [1];

/** A checkpoint is held in the worker's memory for a task's whole life, so it is kept small. */
export const MAX_CHECKPOINT_BYTES = 64 * 1024;

/** What the framework or the agent wants a task to be, other than running. Kept by the worker, because Mesos never repeats a KILL. */
export interface Wanted {
  kind: "kill" | "shutdown";
  /** The KILL event's own grace period; absent when it gave none. For `shutdown`: the executor's shutdown grace period. */
  gracePeriodMs?: number;
  receivedAt: number;
  /** Why: for the status message. */
  cause: "framework" | "agent" | "signal";
}

/** How a child process of the worker ended; exactly one of the two is set. */
export interface ChildExit {
  exitCode?: number;
  signal?: number;
  at: number;
  /** The cgroup of the child had an out-of-memory kill. */
  oomKilled?: boolean;
}

/** A process that the worker started for a command task. `startTime` is field 22 of /proc/<pid>/stat: pid and it name a process for good. */
export interface Child {
  pid: number;
  startTime: string;
  /**
   * The directories of the cgroups that were made for the task, named as `taskCgroupName` says; absent where none could be made. When
   * the worker dies, the supervisor kills what is in them and removes them.
   */
  cgroups?: string[];
}

/** What a worker holds of one task. */
export interface TaskRecord {
  taskId: string;
  taskInfo: OpaqueTaskInfo;
  launchedAt: number;
  /** The ids of all tasks of the LAUNCH_GROUP that brought it; absent for a LAUNCH. */
  group?: string[];
  /** The last update that was made for it, sent or not. */
  lastStatus?: { state: TaskState; message?: string; reason?: string; healthy?: boolean; at: number };
  wanted?: Wanted;
  child?: Child;
  exit?: ChildExit;
  /** Bytes of each stream that the child has written; only where its output is forwarded, and not from workers of older builds. */
  output?: { stdout: number; stderr: number };
  /** The agent has acknowledged the terminal update. */
  terminalAcknowledged?: boolean;
  /** The last checkpoint that the supervisor gave to hold; opaque to the worker. */
  checkpoint?: { sequence: number; data: unknown };
}

/** What one of the worker's own standard descriptors is. Where it is a file, the supervisor's log thread may append to it directly. */
export interface DescriptorKind {
  kind: "file" | "pipe" | "other";
  device: string;
  inode: string;
}

export interface Hello {
  type: "hello";
  protocol: number[];
  /** The worker's build version, for `berth ps` and logs. */
  version: string;
  pid: number;
  /** Field 22 of /proc/self/stat; absent where /proc is not to be had. */
  startTime?: string;
  /** The pid namespace of the worker ("pid:[4026531836]"): pids of another namespace cannot be checked by the supervisor. */
  pidNamespace?: string;
  frameworkId: string;
  executorId: string;
  /** The executor's own Mesos ContainerID, from SUBSCRIBED. */
  containerId: string;
  agentId: string;
  agentHostname: string;
  agentEndpoint: string;
  frameworkName: string;
  frameworkUser?: string;
  frameworkCapabilities: string[];
  /** The sandbox directory on the host. */
  sandbox: string;
  stdout: DescriptorKind;
  stderr: DescriptorKind;
  /** The executor's environment, without the agent's token. */
  environment: Record<string, string>;
  /** Command line after the program's name: the stock flags of Mesos's docker executor where it was started as a drop-in. */
  args: string[];
  shutdownGracePeriodMs: number;
  /** This worker says `written` for each `output` with a number. */
  tellsWritten?: boolean;
  tasks: TaskRecord[];
}

/** Worker → supervisor. */
export type WorkerMessage =
  | Hello
  | { type: "launch"; tasks: TaskRecord[] }
  | { type: "kill"; taskId: string; wanted: Wanted }
  /** The whole executor must stop: every task is wanted down within the grace period. */
  | { type: "shutdown"; wanted: Wanted }
  /** Data from the scheduler (MESSAGE event), base64. */
  | { type: "message"; data: string }
  | { type: "spawned"; taskId: string; child: Child }
  | { type: "spawnFailed"; taskId: string; error: string }
  | { type: "exited"; taskId: string; exit: ChildExit }
  | { type: "held"; taskId: string; sequence: number }
  | { type: "acknowledged"; taskId: string; uuid: string; state: TaskState }
  /**
   * Output of a command task's child, base64; only where it was asked for by `spawn.output: "forward"`. `offset`: how many bytes of the
   * stream came before these. What was not `taken` comes once more after each welcome, so pieces may repeat and, where the worker
   * could not keep all, skip. Without `offset` (workers of older builds) a piece comes once.
   */
  | { type: "output"; taskId: string; stream: "stdout" | "stderr"; data: string; offset?: number }
  /** The `output` of this number has left through the worker's own descriptor, or was given up because nobody reads there. */
  | { type: "written"; sequence: number };

/** An update as the supervisor asks for it; the worker adds uuid, timestamp, source and agent id. */
export interface RequestedUpdate {
  state: TaskState;
  message?: string;
  reason?: TaskStatusReason;
  healthy?: boolean;
  data?: string;
  labels?: Array<{ key: string; value: string }>;
  containerStatus?: ContainerStatus;
  checkStatus?: CheckStatus;
}

export interface Spawn {
  type: "spawn";
  taskId: string;
  argv: string[];
  /** The child's whole environment; nothing of the worker's own is added. */
  environment: Record<string, string>;
  directory: string;
  user?: { uid: number; gid: number; groups: number[] };
  rlimits?: Array<{ type: string; soft: number | null; hard: number | null }>;
  /** `inherit`: the worker's own stdout and stderr. `forward`: also copied to the supervisor as `output`. */
  output: "inherit" | "forward";
}

/** Supervisor → worker. */
export type SupervisorMessage =
  /** `takesOutput`: this supervisor will say `taken`; to one that does not, output is sent once. */
  | { type: "welcome"; protocol: number; version: string; takesOutput?: boolean }
  /** The worker must not serve (`retry: false`: it exits) or try again later (`retry: true`). */
  | { type: "refuse"; reason: string; retry: boolean }
  | { type: "update"; taskId: string; update: RequestedUpdate }
  | { type: "checkpoint"; taskId: string; sequence: number; data: unknown }
  | Spawn
  /** Signals the task's whole process tree, less the processes named in `except` (comm, case ignored; never for SIGKILL). */
  | { type: "signal"; taskId: string; signal: number; except?: string[] }
  /** Data for the scheduler (MESSAGE call), base64. */
  | { type: "message"; data: string }
  | { type: "title"; text: string }
  /** Nothing of this task is left to do, and others of the executor go on: the worker need not hold it any longer. */
  | { type: "forget"; taskId: string }
  /** Bytes for the worker's own stdout or stderr, base64, where those are pipes that only it holds. With `sequence` it is answered by `written`. */
  | { type: "output"; stream: "stdout" | "stderr"; data: string; sequence?: number }
  /** So many bytes of each stream of a child's output have reached their targets: they need not be kept for another supervisor. */
  | { type: "taken"; taskId: string; stdout: number; stderr: number }
  /** No task is left and everything is cleaned up: the worker may end once its updates are acknowledged. */
  | { type: "exit"; code: number };

export type { TerminalState };
