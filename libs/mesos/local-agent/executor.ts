import { EventEmitter } from "node:events";
import { constants } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { Id } from "../executor-api.ts";
import type { CallStatus, ReceivedCall } from "./call.ts";
import type { EventStream, StreamEnd } from "./event-stream.ts";
import type { ExecutorProcess, ProcessEnd } from "./executor-process.ts";
import type { ExecutorFailure, ObservedStatus } from "./observed.ts";
import { withTaskDefaults } from "./task-defaults.ts";
import { TaskLedger } from "./task-ledger.ts";

/** A TaskInfo to launch. `name` defaults to the task id; `agent_id` and `executor` are filled in. 64-bit integers may be bigint. */
export interface TaskInfoInput {
  task_id: Id;
  name?: string;
  [field: string]: unknown;
}

export interface LocalExecutorEvents {
  /** A status update reached the scheduler. */
  update: [ObservedStatus];
  /** A MESSAGE of the executor reached the scheduler. */
  message: [Buffer];
  /** SUBSCRIBE was taken; 1 for the first time. */
  subscribed: [number];
  /** The executor ended; sent before the updates that the agent then invents. */
  failure: [ExecutorFailure];
}

/** What an executor run needs of its agent. */
export interface ExecutorContext {
  agentId: string;
  agentInfo: () => Record<string, unknown>;
  frameworkInfo: Record<string, unknown>;
  partitionAware: boolean;
  heartbeatIntervalMs: number;
  registrationTimeoutMs: number;
  reapDelayMs: number;
  /** Resolves while the agent's process "runs": what happens while it is down is noticed at its recovery. */
  whenAlive: () => Promise<void>;
  acknowledgementsHeld: () => boolean;
}

export interface ExecutorIdentity {
  executorId: string;
  frameworkId: string;
  containerId: string;
  sandbox: string;
  /** With defaults, as it stands in SUBSCRIBED and in every task. */
  executorInfo: Record<string, unknown>;
  shutdownGraceMs: number;
  /** MESOS_EXECUTOR_AUTHENTICATION_TOKEN, when the agent authenticates. */
  token: string | undefined;
  environment: Record<string, string>;
}

/**
 * The agent's own states of an executor. After a restart a recovered executor is REGISTERING again. FORGOTTEN: the restarted
 * agent does not know it; it may live on, nobody ends it.
 */
export type ExecutorState = "REGISTERING" | "RUNNING" | "TERMINATING" | "TERMINATED" | "FORGOTTEN";

interface Termination {
  state: string;
  reason: string;
  message: string;
}

/** One run of one executor: its process, its stream, its tasks. Made by `LocalAgent.startExecutor`. */
export class LocalExecutor extends EventEmitter<LocalExecutorEvents> implements ExecutorIdentity {
  readonly executorId: string;
  readonly frameworkId: string;
  readonly containerId: string;
  readonly sandbox: string;
  readonly executorInfo: Record<string, unknown>;
  readonly shutdownGraceMs: number;
  readonly token: string | undefined;
  readonly environment: Record<string, string>;
  /** Every update that the scheduler saw, in order. */
  readonly updates: ObservedStatus[] = [];
  /** Resolves when the process has ended and the agent has reported what follows from that. */
  readonly exited: Promise<ProcessEnd>;
  /** The events that were put on a stream, oldest first (also those that a broken stream swallowed). */
  readonly events: unknown[] = [];

  readonly #context: ExecutorContext;
  readonly #process: ExecutorProcess;
  readonly #ledger: TaskLedger;
  readonly #queue: string[][] = [];
  /** Ids of tasks that came in a group. */
  readonly #groups = new Set<string>();
  readonly #timers = new Map<string, NodeJS.Timeout>();
  #state: ExecutorState = "REGISTERING";
  #stream: EventStream | undefined;
  #subscriptions = 0;
  #everLaunched = false;
  #frameworkTerminating = false;
  #termination: Termination | undefined;
  #held: Array<{ taskId: string; uuid: string }> = [];
  #ended: ProcessEnd | undefined;

  constructor(identity: ExecutorIdentity, process: ExecutorProcess, context: ExecutorContext) {
    super();
    this.executorId = identity.executorId;
    this.frameworkId = identity.frameworkId;
    this.containerId = identity.containerId;
    this.sandbox = identity.sandbox;
    this.executorInfo = identity.executorInfo;
    this.shutdownGraceMs = identity.shutdownGraceMs;
    this.token = identity.token;
    this.environment = identity.environment;
    this.#context = context;
    this.#process = process;
    const facts = { agentId: context.agentId, executorId: this.executorId, containerId: this.containerId, executorPid: () => process.pid };
    this.#ledger = new TaskLedger(facts, (status) => this.#report(status));
    this.exited = this.#reap();
    this.#arm("registration", context.registrationTimeoutMs, () => {
      const message = `Executor did not register within ${context.registrationTimeoutMs / 1000}secs`;
      void this.destroy({ state: "TASK_FAILED", reason: "REASON_EXECUTOR_REGISTRATION_TIMEOUT", message });
    });
  }

  get state(): ExecutorState {
    return this.#state;
  }

  /** Of the shell that runs the command; with `exec` in the command, of the executor itself. Undefined if it could not start. */
  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** Undefined until the process has ended (which may be before `exited`). */
  get ended(): ProcessEnd | undefined {
    return this.#ended;
  }

  /** How often SUBSCRIBE was taken. */
  get subscriptions(): number {
    return this.#subscriptions;
  }

  /** Whether a stream is open now. */
  get connected(): boolean {
    return this.#stream !== undefined && !this.#stream.over;
  }

  /** Tasks that the agent holds for not over. */
  get liveTasks(): string[] {
    return this.#ledger.live().map(([taskId]) => taskId);
  }

  /** Launches a task: at once when subscribed, else after SUBSCRIBED. Into a broken stream it is lost, as Mesos loses it. */
  launch(task: TaskInfoInput): void {
    this.#enqueue([task], false);
  }

  /** Launches tasks all or none, as one LAUNCH_GROUP. */
  launchGroup(tasks: readonly TaskInfoInput[]): void {
    this.#enqueue(tasks, true);
  }

  /**
   * Sends KILL, with a kill policy if a grace period is given. A task that is still queued never reaches the executor. An
   * executor that is terminating gets none. A KILL for a task that nobody knows is passed on (an agent would answer it itself).
   */
  kill(taskId: string, options: { gracePeriodMs?: number } = {}): void {
    if (this.#state === "TERMINATING" || this.#state === "TERMINATED") return;
    const queued = this.#queue.findIndex((group) => group.includes(taskId));
    if (queued !== -1) {
      for (const id of this.#queue.splice(queued, 1)[0] ?? []) {
        this.#ledger.invent(id, "TASK_KILLED", "REASON_TASK_KILLED_DURING_LAUNCH", "Killed before delivery to the executor");
      }
      if (this.#nothingToDo()) this.shutdown();
      return;
    }
    const { gracePeriodMs } = options;
    const policy = gracePeriodMs === undefined ? {} : { kill_policy: { grace_period: { nanoseconds: gracePeriodMs * 1e6 } } };
    this.send({ type: "KILL", kill: { task_id: { value: taskId }, ...policy } });
  }

  /** Sends the scheduler's MESSAGE. Dropped, as Mesos drops it, unless the executor is subscribed. */
  message(data: Uint8Array | string): void {
    if (this.#state !== "RUNNING") return;
    this.send({ type: "MESSAGE", message: { data: Buffer.from(data).toString("base64") } });
  }

  /**
   * Sends SHUTDOWN and destroys the executor after its grace period. With `framework: true` the framework is torn down: updates
   * are taken with 202 from then on, but neither forwarded nor acknowledged.
   */
  shutdown(options: { framework?: boolean } = {}): void {
    if (options.framework === true) this.#frameworkTerminating = true;
    if (this.#state !== "REGISTERING" && this.#state !== "RUNNING") return;
    this.#state = "TERMINATING";
    this.send({ type: "SHUTDOWN" });
    this.#arm("shutdown", this.shutdownGraceMs, () => void this.destroy());
  }

  /** Puts any event on the stream as it is: unknown types, flawed fields, an invented acknowledgement. Lost without a stream. */
  send(event: unknown): void {
    this.events.push(event);
    this.#stream?.send(event);
  }

  /** Puts raw bytes on the stream: half a record, a bad length. */
  sendBytes(bytes: Uint8Array): void {
    this.#stream?.sendBytes(bytes);
  }

  /** Breaks the stream. The agent does not notice: events from now on are lost, updates are still taken. */
  dropStream(how: StreamEnd = "clean"): void {
    this.#stream?.end(how);
  }

  /** SIGKILL to the executor's process alone, as an operator would; the agent then finds it dead. */
  crash(signal: NodeJS.Signals = "SIGKILL"): void {
    this.#process.kill(signal);
  }

  /** SIGKILL to everything the executor started, as the agent does. `termination`: what its live tasks become. */
  async destroy(termination?: Termination): Promise<ProcessEnd> {
    this.#termination ??= termination;
    if (this.#state !== "FORGOTTEN") this.#state = "TERMINATING";
    await this.#process.destroy();
    return this.exited;
  }

  /**
   * Resolves with the first update of the task that has this state or satisfies the predicate, past ones included. Rejects when
   * the executor ends without it, when the signal aborts, or after the deadline (default 30 s), and says which states came.
   */
  async waitForState(
    taskId: string,
    wanted: string | ((status: ObservedStatus) => boolean),
    options: { signal?: AbortSignal; deadlineMs?: number } = {},
  ): Promise<ObservedStatus> {
    const fits = (status: ObservedStatus): boolean =>
      status.task_id.value === taskId && (typeof wanted === "string" ? status.state === wanted : wanted(status));
    const past = this.updates.find(fits);
    if (past !== undefined) return past;
    const { promise, resolve, reject } = Promise.withResolvers<ObservedStatus>();
    const fail = (why: string): void => {
      const states = this.updates.filter((update) => update.task_id.value === taskId).map((update) => update.state);
      const what = typeof wanted === "string" ? wanted : "the awaited update";
      reject(
        new Error(`executor ${this.executorId}: ${why} before ${what} of task ${taskId}; states so far: ${states.join(", ") || "none"}`),
      );
    };
    const listen = (status: ObservedStatus): void => {
      if (fits(status)) resolve(status);
    };
    const aborted = (): void => fail("aborted");
    const timer = setTimeout(() => fail("the deadline passed"), options.deadlineMs ?? 30_000);
    this.on("update", listen);
    options.signal?.addEventListener("abort", aborted);
    if (options.signal?.aborted === true) aborted();
    void this.exited.then(() => fail("it ended"));
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.off("update", listen);
      options.signal?.removeEventListener("abort", aborted);
    }
  }

  /** For the agent: takes a SUBSCRIBE and owns its stream from now on. Source: slave.cpp `subscribe`. */
  subscribe(call: Extract<ReceivedCall, { type: "SUBSCRIBE" }>, stream: EventStream): void {
    this.#stream?.end("clean");
    this.#stream = stream;
    if (this.#state === "TERMINATING" || this.#state === "TERMINATED" || this.#frameworkTerminating) {
      this.#refuseStream();
      return;
    }
    this.#state = "RUNNING";
    this.#disarm("registration");
    for (const status of call.unacknowledgedUpdates) this.update(status);
    this.#dropUnseen(new Set(call.unacknowledgedTasks.map((task) => (task.task_id as Id).value)));
    if (this.#nothingToDo()) {
      this.shutdown();
      return;
    }
    this.#subscriptions += 1;
    this.send({ type: "SUBSCRIBED", subscribed: this.#subscribed() });
    for (const ids of this.#queue.splice(0)) this.#deliver(ids);
    this.#beat();
    this.emit("subscribed", this.#subscriptions);
  }

  /** For the agent: takes a status that passed validation. */
  update(status: CallStatus): void {
    if (this.#frameworkTerminating || this.#state === "TERMINATED") return;
    if (!this.#ledger.receive(status)) return;
    const acknowledgement = { taskId: status.task_id.value, uuid: status.uuid };
    if (this.#context.acknowledgementsHeld()) {
      if (!this.#held.some((entry) => entry.uuid === status.uuid)) this.#held.push(acknowledgement);
      return;
    }
    // Not before the 202: a real agent acknowledges when its status update manager has written the update.
    setImmediate(() => this.#acknowledge(acknowledgement));
  }

  /** For the agent: takes a MESSAGE for the scheduler. */
  receiveMessage(data: string): void {
    this.emit("message", Buffer.from(data, "base64"));
  }

  /** For the agent: sends what was held back. */
  releaseAcknowledgements(): void {
    for (const entry of this.#held.splice(0)) this.#acknowledge(entry);
  }

  /** For the agent: its process was killed. A recovered executor has to subscribe again; a forgotten one is a stranger. */
  agentRestarted(recovered: boolean): void {
    this.#stream = undefined;
    this.#disarm("heartbeat");
    this.#held = [];
    if (this.#state === "TERMINATED" || this.#state === "FORGOTTEN") return;
    if (!recovered) {
      this.#disarm("registration");
      this.#disarm("shutdown");
      for (const [taskId] of this.#ledger.live()) {
        this.#ledger.invent(taskId, "TASK_LOST", "REASON_AGENT_DISCONNECTED", "Agent disconnected");
      }
      this.#state = "FORGOTTEN";
    } else if (this.#state === "RUNNING") {
      this.#state = "REGISTERING";
    }
  }

  /** For the agent: `--recover=cleanup`, the executor hears SHUTDOWN when it subscribes. */
  cleanUp(): void {
    if (this.#state !== "REGISTERING") return;
    this.#state = "TERMINATING";
    this.#arm("shutdown", this.shutdownGraceMs, () => void this.destroy());
  }

  #enqueue(tasks: readonly TaskInfoInput[], group: boolean): void {
    const twice = tasks.find((task) => this.#ledger.tasks.has(task.task_id.value));
    if (twice !== undefined) throw new Error(`executor ${this.executorId}: task ${twice.task_id.value} was launched already`);
    this.#everLaunched = true;
    const ids: string[] = [];
    for (const task of tasks) {
      const executor = group ? { type: "CUSTOM", ...this.executorInfo } : this.executorInfo;
      const info = withTaskDefaults({ name: task.task_id.value, agent_id: { value: this.#context.agentId }, executor, ...task });
      this.#ledger.tasks.set(task.task_id.value, { info, state: "QUEUED" });
      ids.push(task.task_id.value);
      if (group) this.#groups.add(task.task_id.value);
    }
    if (this.#state === "RUNNING") this.#deliver(ids);
    else this.#queue.push(ids);
  }

  #deliver(ids: readonly string[]): void {
    const tasks = ids.map((id) => this.#ledger.tasks.get(id)).filter((task) => task !== undefined);
    for (const task of tasks) task.state = "TASK_STAGING";
    const infos = tasks.map((task) => task.info);
    if (ids.some((id) => this.#groups.has(id))) this.send({ type: "LAUNCH_GROUP", launch_group: { task_group: { tasks: infos } } });
    else this.send({ type: "LAUNCH", launch: { task: infos[0] } });
  }

  /** Tasks sent into a broken stream, or launched while the agent restarted: the executor cannot know them. */
  #dropUnseen(known: ReadonlySet<string>): void {
    for (const [taskId, task] of this.#ledger.live()) {
      if (task.state !== "TASK_STAGING" || known.has(taskId)) continue;
      const state = this.#context.partitionAware ? "TASK_DROPPED" : "TASK_LOST";
      this.#ledger.invent(taskId, state, "REASON_AGENT_RESTARTED", "Task launched during agent restart");
    }
  }

  /** The agent ends an executor that never got a task and has none waiting; one that was started without any is spared. */
  #nothingToDo(): boolean {
    return this.#everLaunched && !this.#ledger.heardFromExecutor && this.#ledger.live().length === 0;
  }

  #refuseStream(): void {
    this.send({ type: "SHUTDOWN" });
    this.#stream?.end("clean");
  }

  #subscribed(): Record<string, unknown> {
    return {
      executor_info: this.executorInfo,
      framework_info: this.#context.frameworkInfo,
      agent_info: this.#context.agentInfo(),
      container_id: { value: this.containerId },
    };
  }

  #acknowledge({ taskId, uuid }: { taskId: string; uuid: string }): void {
    this.send({ type: "ACKNOWLEDGED", acknowledged: { task_id: { value: taskId }, uuid } });
  }

  #beat(): void {
    this.#arm("heartbeat", this.#context.heartbeatIntervalMs, () => {
      this.#stream?.send({ type: "HEARTBEAT" });
      this.#beat();
    });
  }

  #report(status: ObservedStatus): void {
    this.updates.push(status);
    this.emit("update", status);
  }

  async #reap(): Promise<ProcessEnd> {
    const end = await this.#process.ended;
    this.#ended = end;
    if (this.#context.reapDelayMs > 0) await sleep(this.#context.reapDelayMs);
    await this.#process.destroy();
    await this.#context.whenAlive();
    for (const name of this.#timers.keys()) this.#disarm(name);
    this.#stream?.end("clean");
    if (this.#state === "FORGOTTEN") return end;
    this.#state = "TERMINATED";
    this.emit("failure", { executorId: this.executorId, agentId: this.#context.agentId, status: waitStatus(end) });
    const why = this.#termination ?? { state: "TASK_FAILED", reason: "REASON_EXECUTOR_TERMINATED", message: "Executor terminated" };
    for (const [taskId] of this.#ledger.live()) this.#ledger.invent(taskId, why.state, why.reason, why.message);
    return end;
  }

  #arm(name: string, delayMs: number, act: () => void): void {
    this.#disarm(name);
    this.#timers.set(name, setTimeout(act, delayMs));
  }

  #disarm(name: string): void {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }
}

function waitStatus(end: ProcessEnd): number {
  return end.signal === null ? (end.code ?? 0) * 256 : constants.signals[end.signal];
}
