/**
 * The life of a task as hooks see it. This file is the whole contract between the supervisor and a hook.
 *
 * ```
 *   launch accepted
 *        │
 *   beforeCreate ──refuses──────────────────────────────┐   may change the task and its environment
 *        │                                              │
 *   (secrets, policy, pull, create)                     │
 *        │                                              │
 *   beforeStart ──fails─────────────────────────────────┤   the container exists and has not run
 *        │                                              │
 *      start                                            │
 *        │                                              │
 *   afterStart ──fails──► stop                          │   the process runs, its network namespace exists
 *        │                                              │
 *   TASK_RUNNING                                        │
 *        │                                              │
 *   afterHealthy                                        │   at the first healthy verdict; at once where nothing checks
 *        │                                              │
 *   KILL, unhealthy, exit                               │
 *        │                                              │
 *   beforeStop (deregister, drain)                      │   its waits are skipped when the task ended by itself
 *        │                                              │
 *   TERM, grace period, KILL, exit status held          │
 *        │                                              │
 *   afterStop ◄─────────────────────────────────────────┘   always, bounded, also by the reaper; then the terminal update
 * ```
 *
 * A stage's hooks run one after the other by ascending `priority`. The stop stages run every hook, whatever the others do; the
 * start stages end at the first failure of a hook that `failsTask`. What a hook returns as `state` is kept in the task's
 * checkpoint and handed back at its later stages, also by a supervisor that was restarted in between; it must hold no secret.
 * A stage may be entered again for the same task after a crash: every hook must be safe to repeat.
 */
import type { TaskInfo } from "@berth/mesos/task-info";
import type { Address, TaskIdentity } from "@berth/runtime";

export const STAGES = ["beforeCreate", "beforeStart", "afterStart", "afterHealthy", "beforeStop", "afterStop"] as const;
export type Stage = (typeof STAGES)[number];

/** What every stage is told. Later fields are there only once they exist. */
export interface HookTask {
  identity: TaskIdentity;
  runtime: "docker" | "process";
  task: TaskInfo;
  /** The environment that the task gets, `vault://` references as written; never resolved values. */
  environment: Readonly<Record<string, string>>;
  /** The executor's own environment. */
  executorEnvironment: Readonly<Record<string, string>>;
  agentHostname: string;
  /** Not known to a supervisor that has only a container's labels. */
  frameworkName?: string;
  sandbox: string;
  /** The container's id (Docker) or the child's pid as text; from beforeStart (Docker) or afterStart on. */
  id?: string;
  /** Pid of the task's main process in the supervisor's pid namespace; from afterStart on while it runs. */
  pid?: number;
  addresses?: readonly Address[];
  /** In the stop stages, why the task stops. */
  stop?: HookStop;
}

export interface HookStop {
  /** "framework-kill", "unhealthy", "ended" (by itself), "launch-failed" … */
  cause: string;
  message: string;
  /** When the stop was decided, milliseconds since the epoch: a wait that a restarted supervisor takes up again counts from here. */
  since: number;
  /** The process is over (or never ran): there is nothing to drain, and nothing to wait for. */
  alreadyEnded: boolean;
  /** Milliseconds since the epoch; the first signal is sent then at the latest. */
  deadline: number;
}

export interface HookContext {
  /** Aborts at the hook's timeout, and in the start stages also when the task is killed. */
  signal: AbortSignal;
  /** What this hook returned as `state` at its last stage for this task. */
  state: unknown;
  log: HookLog;
}

export interface HookLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface HookResult {
  state?: unknown;
  /** Only from beforeCreate: variables added to the task's environment; later hooks win. */
  environment?: Record<string, string>;
  /** Only from beforeCreate: a changed TaskInfo. */
  task?: TaskInfo;
}

export type StageFunction = (task: HookTask, context: HookContext) => Promise<HookResult | undefined>;

export interface Hook {
  readonly name: string;
  /** Hooks of one stage run by ascending priority, equal ones by name. Built-in hooks use multiples of 100. */
  readonly priority: number;
  /** Of each stage call, milliseconds. */
  readonly timeoutMs: number;
  /** Whether a failure in a start stage fails the task. Stop stages never do. */
  readonly failsTask: boolean;
  readonly stages: Partial<Record<Stage, StageFunction>>;
  /** For `berth plan`: what the hook would do for this task, in a sentence; undefined when it would do nothing. */
  describe(task: HookTask): string | undefined;
}
