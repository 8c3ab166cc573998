import * as z from "zod/mini";

/** One line of `berth ps`. Times are milliseconds since the epoch; field names are stable. */
export const TaskSummary = z.object({
  taskId: z.string(),
  frameworkId: z.string(),
  executorId: z.string(),
  /** Of the container, or "process of …". */
  name: z.string(),
  /** "docker" or "process". */
  runtime: z.string(),
  /** The last state that the agent was told; null before the first. */
  state: z.nullable(z.string()),
  phase: z.string(),
  /** What the reconciler does or waits for. */
  step: z.string(),
  healthy: z.nullable(z.boolean()),
  /** Container id or pid; null when there is none. */
  id: z.nullable(z.string()),
  image: z.nullable(z.string()),
  /** "connected", "away" or "dead". */
  worker: z.string(),
  launchedAt: z.number(),
  startedAt: z.nullable(z.number()),
  message: z.nullable(z.string()),
});
export type TaskSummary = z.infer<typeof TaskSummary>;

export const TaskSummaries = z.array(TaskSummary);

/** What one target of a task's output got. */
export const LogTarget = z.object({
  type: z.string(),
  name: z.string(),
  /** Lines. */
  sent: z.number(),
  /** Lines not delivered, by reason. */
  dropped: z.record(z.string(), z.number()),
  queuedBytes: z.number(),
  /** Lines that are still on their way when the task is over. Absent for none. */
  left: z.optional(z.number()),
  /** Lines that went out a second time after a connection broke. Absent for none. */
  resent: z.optional(z.number()),
  /** In words, while something is wrong. */
  problem: z.optional(z.string()),
});
export type LogTarget = z.infer<typeof LogTarget>;

/** What came of a task's output: what was read, and what each of its targets got. */
export const TaskLogView = z.object({
  /** How it is read. */
  source: z.string(),
  lines: z.number(),
  bytes: z.number(),
  /** Lines that were cut at the line limit. */
  cut: z.number(),
  /** Output that was gone before it could be read: how often, and why last. */
  gaps: z.number(),
  lastGap: z.optional(z.string()),
  /** Records that could not be parsed. */
  malformed: z.number(),
  /** Not read yet; absent where that cannot be known. */
  lagBytes: z.optional(z.number()),
  /** How often a silent stream was opened again. */
  reopened: z.number(),
  problem: z.optional(z.string()),
  targets: z.array(LogTarget),
});
export type TaskLogView = z.infer<typeof TaskLogView>;

/** What Sidecar says of a task. Times are milliseconds since the epoch. */
export const SidecarView = z.object({
  host: z.string(),
  serviceId: z.string(),
  /** Null where Sidecar does not know it, cannot be asked, or was not asked yet. */
  status: z.nullable(z.string()),
  /** Of the status; where it is null, since when nothing is known. */
  since: z.nullable(z.number()),
  healthy: z.boolean(),
  /** Why it is taken for healthy although Sidecar does not say so. */
  assumedHealthy: z.nullable(z.string()),
  failures: z.number(),
  maxFails: z.number(),
});
export type SidecarView = z.infer<typeof SidecarView>;

const Happening = {
  /** Milliseconds since the epoch. */
  at: z.number(),
  /** In a few words. */
  what: z.string(),
  detail: z.optional(z.string()),
};

/** Everything about one task. Times are milliseconds since the epoch; absent is what is not known or did not happen. */
export const TaskInspection = z.object({
  ...TaskSummary.shape,
  identity: z.object({ frameworkId: z.string(), executorId: z.string(), containerId: z.string(), taskId: z.string() }),
  /** What the runtime had of it when it was last looked at. */
  observed: z.optional(
    z.object({
      /** "absent", "created", "running" or "exited". */
      state: z.string(),
      pid: z.optional(z.number()),
      addresses: z.optional(z.array(z.object({ network: z.string(), protocol: z.string(), address: z.string() }))),
      exit: z.optional(z.object({ exitCode: z.number(), oomKilled: z.boolean(), finishedAt: z.number(), error: z.optional(z.string()) })),
    }),
  ),
  /** What the agent was told last. */
  lastStatus: z.optional(
    z.object({
      state: z.string(),
      message: z.optional(z.string()),
      reason: z.optional(z.string()),
      healthy: z.optional(z.boolean()),
      at: z.number(),
    }),
  ),
  /** Why it is being stopped, and by when. */
  stop: z.optional(
    z.object({
      cause: z.string(),
      message: z.string(),
      requestedAt: z.number(),
      gracePeriodMs: z.number(),
      /** What comes before the first signal (deregistration, drain) ends here at the latest. */
      signalBy: z.number(),
      signalledAt: z.optional(z.number()),
      killedAt: z.optional(z.number()),
    }),
  ),
  /** What the agent will hear of its end, or heard. */
  outcome: z.optional(z.object({ state: z.string(), message: z.string(), reason: z.optional(z.string()) })),
  /** As planned: references to secrets as written. */
  environment: z.optional(z.record(z.string(), z.string())),
  /** Where each variable of it came from. */
  environmentOrigins: z.optional(z.record(z.string(), z.string())),
  /** The TaskInfo, without secrets. */
  task: z.optional(z.unknown()),
  /** Its last 100, oldest first. */
  events: z.readonly(z.array(z.object(Happening))),
  /** Null for a task that is not watched in Sidecar. */
  sidecar: z.nullable(SidecarView),
  /** Null where the output is not relayed (yet), or the log thread does not answer. */
  logs: z.nullable(TaskLogView),
});
export type TaskInspection = z.infer<typeof TaskInspection>;

/** A task that is being stopped. */
export const Killed = z.object({ taskId: z.string(), gracePeriodMs: z.number() });
export type Killed = z.infer<typeof Killed>;

/** Something that happened to a task, one line of `berth events`. */
export const HostEvent = z.object({
  /** Counts from 1 over the daemon's life. */
  sequence: z.number(),
  taskId: z.string(),
  ...Happening,
});
export type HostEvent = z.infer<typeof HostEvent>;

/** One line of a task's output. */
export const LogLine = z.object({
  stream: z.enum(["stdout", "stderr"]),
  /** RFC 3339; empty where the output has no times. */
  time: z.string(),
  text: z.string(),
});
export type LogLine = z.infer<typeof LogLine>;
