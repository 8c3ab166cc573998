import type { HookRunner, HookTask, Stage } from "@berth/hooks";
import { isTerminal, TaskFailure, type TaskState } from "@berth/mesos";
import type { TaskInfo } from "@berth/mesos/task-info";
import type { RequestedUpdate, TaskRecord, Wanted } from "@berth/protocol";
import { backoffDelay } from "@berth/retry";
import type { Observed, TaskIdentity } from "@berth/runtime";
import { decide, type Step } from "./decide.ts";
import { type ExitStates, type Outcome, outcomeOfExit, outcomeOfStop, outcomeOfVanishing } from "./outcome.ts";
import type { LogPort, SecretPort, TaskEvent, TaskLog, Verdicts, Watch, WorkerPort } from "./ports.ts";
import type { PlannedTask, TaskRuntime } from "./runtime.ts";
import { type Checkpoint, FRESH_CHECKPOINT, type Phase, type Situation, type Stop, type StopCause } from "./situation.ts";
import { secretValues, withoutSecrets } from "./task-secrets.ts";

export interface TaskParts {
  identity: TaskIdentity;
  record: TaskRecord;
  /** What the TaskInfo was parsed to, or why it cannot be. */
  task: TaskInfo | TaskFailure;
  /** Describes the executor to hooks. */
  surroundings: Pick<HookTask, "executorEnvironment" | "agentHostname" | "sandbox">;
  worker: WorkerPort;
  runtime: TaskRuntime;
  hooks: HookRunner;
  secrets: SecretPort;
  logs: LogPort;
  watches: readonly Watch[];
  takesKilling: boolean;
  /** Whether the container of a task with this outcome stays for a post-mortem; the reaper removes it later. */
  keepsContainer: (outcome: Outcome) => boolean;
  /** Said once, at the task's beginning. */
  warnings: readonly string[];
  exitStates: ExitStates;
  successState: "TASK_FINISHED" | "TASK_FAILED";
  /** A task that Sidecar calls unhealthy gets its state by its exit code, as sidecar-executor has it. */
  sidecarByExitCode: boolean;
  /** Where neither the KILL nor the TaskInfo gives a grace period, milliseconds. */
  defaultGracePeriodMs: number;
  now: () => number;
  log: TaskLog;
  /** Told of every update that goes to the agent. */
  onUpdate: (update: RequestedUpdate) => void;
  /** Told of everything that happens to the task, secrets masked. */
  onEvent: (event: TaskEvent) => void;
  /** Called once, when it is settled what the agent will hear. */
  onConcluded: (outcome: Outcome) => void;
  /** Called once, when nothing of the task is left to do. */
  onFinished: () => void;
}

const RETRY_STEP = { attempts: Number.POSITIVE_INFINITY, firstDelayMs: 250, maxDelayMs: 10_000 };
/** A terminal message is shown in lists; the sandbox has the rest. */
const LAST_LINES_IN_MESSAGE = 5;
const MAX_EVENTS = 100;
/** All afterStop hooks together: the agent waits for the terminal update, and the framework for the resources. */
const AFTER_STOP_BUDGET_MS = 30_000;
/** After a shutdown the agent kills the executor soon: half of what is kept back of its grace period. */
const AFTER_SHUTDOWN_BUDGET_MS = 1000;

/**
 * The reconciler of one task. It holds what is known, asks {@link decide} for the next step, takes it, and asks again.
 *
 * INVARIANTS
 * - One step is under way at a time.
 * - Whatever comes in (a kill, a container event, a worker that returns) only changes what is known and wakes the loop. When
 *   the step under way is then no longer the step decided, it is aborted: so a KILL cuts a pull short, and an exit a drain.
 * - An irreversible step (start, first signal, remove) is decided only when the worker holds the checkpoint that allows it.
 * - At most one terminal update is asked for; it is asked again after a worker's return until the worker has taken it.
 */
export class Task {
  readonly identity: TaskIdentity;
  readonly launchedAt: number;
  readonly group: readonly string[] | undefined;
  readonly runtime: TaskRuntime;
  readonly events: TaskEvent[] = [];
  readonly #parts: TaskParts;
  #task: TaskInfo | undefined;
  #checkpoint: Checkpoint;
  #sequence: number;
  #heldSequence: number;
  #observed: Observed | undefined;
  /** Counts the news about the runtime, to tell an inspection that was overtaken by them. */
  #sightings = 0;
  #plan: PlannedTask | undefined;
  #resolved: Record<string, string> | undefined;
  #imageReady = false;
  #createdHere = false;
  #cleanedUp = false;
  #logsCopied = false;
  #removed = false;
  #lastLines: string[] = [];
  #lastStatus: TaskRecord["lastStatus"];
  #terminalAcknowledged: boolean;
  #healthy: boolean;
  #reportedHealth: boolean | undefined;
  #checkStatus: RequestedUpdate["checkStatus"];
  #pendingReport: RequestedUpdate | undefined;
  #endWatches: Array<() => void> | undefined;
  #failedAttempts = 0;
  #retryAt: number | undefined;
  #step: Step = { kind: "wait", why: "not started" };
  #stepAbort = new AbortController();
  #wake: () => void = () => {};
  #finished = false;

  constructor(parts: TaskParts) {
    this.#parts = parts;
    this.identity = parts.identity;
    this.runtime = parts.runtime;
    this.launchedAt = parts.record.launchedAt;
    this.group = parts.record.group;
    const held = parts.record.checkpoint;
    this.#checkpoint = held === undefined ? { ...FRESH_CHECKPOINT } : (held.data as Checkpoint);
    this.#sequence = held?.sequence ?? 0;
    this.#heldSequence = this.#sequence;
    this.#lastStatus = parts.record.lastStatus;
    this.#terminalAcknowledged = parts.record.terminalAcknowledged === true;
    this.#reportedHealth = parts.record.lastStatus?.healthy;
    if (parts.task instanceof TaskFailure) {
      this.#task = undefined;
      this.#healthy = false;
      // A task that runs was valid to the supervisor that started it: a stricter successor must not end it.
      if (this.#checkpoint.phase === "preparing") this.#conclude(failureOutcome(parts.task));
    } else {
      this.#task = parts.task;
      this.#healthy = this.#checkpoint.healthy ?? !parts.watches.some((watch) => watch.decidesHealth(parts.task as TaskInfo));
      if (this.#checkpoint.leases !== undefined) parts.secrets.adopt(this.#checkpoint.leases);
      for (const { name, value } of secretValues(parts.task)) parts.secrets.hide(name, value, `the TaskInfo's secret ${name}`);
    }
    if (parts.record.wanted !== undefined) this.want(parts.record.wanted);
  }

  /** Begins to reconcile; returns at once. */
  run(): void {
    void this.#loop();
  }

  /** What is known, for `berth ps` and `berth inspect`. Holds no secret: references are shown as written. */
  describe(): TaskDescription {
    return {
      identity: this.identity,
      name: this.runtime.name,
      runtime: this.runtime.kind,
      phase: this.#checkpoint.phase,
      step: this.#step.kind === "wait" ? this.#step.why : this.#step.kind,
      observed: this.#observed,
      lastStatus: this.#lastStatus,
      worker: this.#parts.worker.presence,
      launchedAt: this.launchedAt,
      healthy: this.#reportedHealth,
      stop: this.#checkpoint.stop,
      outcome: this.#checkpoint.outcome,
      image: this.#plan?.image ?? this.#task?.container?.docker?.image,
      environment: this.#plan?.environment,
      environmentOrigins: this.#plan?.origins,
      task: this.#task === undefined ? undefined : withoutSecrets(this.#task),
      events: this.events,
    };
  }

  /** The worker repeats this in every hello, so it may come again and again. */
  want(wanted: Wanted): void {
    const given = wanted.gracePeriodMs;
    if (wanted.kind === "shutdown") {
      // Mesos kills the executor when its grace period is over; two seconds of it are for the terminal update's way to the agent.
      const budget = Math.max(0, (given ?? SHUTDOWN_GRACE_MS) - SHUTDOWN_RESERVE_MS);
      const grace = Math.min(this.#defaultGrace(), Math.max(0, budget - SHUTDOWN_HOOKS_MS));
      this.#stop(
        {
          cause: "shutdown",
          message: "the agent shut the executor down",
          gracePeriodMs: grace,
          signalBy: wanted.receivedAt + budget - grace,
        },
        wanted.receivedAt,
      );
      return;
    }
    const cause: StopCause = wanted.cause === "signal" ? "worker-signal" : "framework-kill";
    const message = cause === "worker-signal" ? "the executor was told to end by SIGTERM" : "killed on request of the framework";
    this.#stop({ cause, message, gracePeriodMs: given ?? this.#defaultGrace() }, wanted.receivedAt);
  }

  /** A stop that the supervisor or its operator decides. */
  stop(cause: StopCause, message: string, gracePeriodMs: number = this.#defaultGrace()): void {
    this.#stop({ cause, message, gracePeriodMs }, this.#parts.now());
  }

  /** The runtime may look different now. */
  observeAgain(): void {
    this.#sightings += 1;
    this.#observed = undefined;
    this.#changed();
  }

  /** The worker is back, with what it holds of the task. */
  workerReturned(record: TaskRecord): void {
    this.#lastStatus = record.lastStatus;
    if (record.terminalAcknowledged === true) this.#terminalAcknowledged = true;
    this.#heldSequence = record.checkpoint?.sequence ?? 0;
    if (this.#heldSequence < this.#sequence) this.#sendCheckpoint();
    this.runtime.workerTold?.(record);
    if (record.wanted !== undefined) this.want(record.wanted);
    this.observeAgain();
  }

  /** The worker is away or dead. */
  workerLeft(): void {
    if (this.#parts.worker.presence === "dead" && this.#checkpoint.stop === undefined) {
      this.stop("worker-died", "its executor died");
    }
    this.#changed();
  }

  held(sequence: number): void {
    this.#heldSequence = Math.max(this.#heldSequence, sequence);
    this.#changed();
  }

  acknowledged(state: TaskState): void {
    if (isTerminal(state)) this.#terminalAcknowledged = true;
    this.#changed();
  }

  /** New log positions to be held; nothing waits for them. */
  keepLogPosition(position: unknown): void {
    if (!this.#finished) this.#keep({ logs: position });
  }

  /** The task's leases have new ends. */
  keepLeases(leases: unknown[]): void {
    if (!this.#finished) this.#keep({ leases });
  }

  #defaultGrace(): number {
    const policy = this.#task?.kill_policy?.grace_period;
    return policy === undefined ? (this.#plan?.gracePeriodMs ?? this.#parts.defaultGracePeriodMs) : policy.nanoseconds / 1e6;
  }

  /** The first cause stays; a later request can only make the end come sooner. */
  #stop(request: Pick<Stop, "cause" | "message" | "gracePeriodMs"> & { signalBy?: number }, requestedAt: number): void {
    if (this.#checkpoint.phase === "ended") return;
    const before = this.#checkpoint.stop;
    if (before === undefined) {
      const signalBy = request.signalBy ?? requestedAt + this.#parts.hooks.of("beforeStop").reduce((sum, hook) => sum + hook.timeoutMs, 0);
      this.#note("stop", `${request.message} (grace period ${request.gracePeriodMs} ms)`);
      this.#keep({ stop: { ...request, requestedAt, signalBy } });
    } else if (before.requestedAt !== requestedAt) {
      const signalBy = request.signalBy ?? this.#parts.now();
      const shorter = {
        gracePeriodMs: Math.min(before.gracePeriodMs, request.gracePeriodMs),
        signalBy: Math.min(before.signalBy, signalBy),
      };
      if (shorter.gracePeriodMs === before.gracePeriodMs && shorter.signalBy === before.signalBy) return;
      this.#note("stop sooner", request.message);
      this.#keep({ stop: { ...before, ...shorter } });
    } else return;
    this.#changed();
  }

  #situation(): Situation {
    const { parts, checkpoint } = { parts: this.#parts, checkpoint: this.#checkpoint };
    const presence = parts.worker.presence;
    return {
      now: parts.now(),
      checkpoint,
      held: presence === "dead" || this.#heldSequence >= this.#sequence,
      worker: presence,
      observed: this.#observed,
      planned: this.#plan !== undefined,
      secretsResolved: this.#resolved !== undefined,
      imageReady: this.#imageReady,
      createdHere: this.#createdHere,
      absenceIsCertain: this.runtime.kind === "process",
      cleanedUp: this.#cleanedUp,
      logsCopied: this.#logsCopied,
      removed: this.#removed,
      lastStatus: this.#lastStatus,
      terminalAcknowledged: this.#terminalAcknowledged,
      takesKilling: parts.takesKilling,
      healthy: this.#healthy,
      ...(this.#pendingReport === undefined ? {} : { pendingReport: this.#pendingReport }),
    };
  }

  async #loop(): Promise<void> {
    while (!this.#finished) {
      const step = this.#nextStep();
      this.#step = step;
      if (step.kind === "wait") {
        await this.#sleep(step.until);
        continue;
      }
      this.#stepAbort = new AbortController();
      const timer = step.kind === "hooks" && step.until !== undefined ? this.#abortAt(this.#stepAbort, step.until) : undefined;
      try {
        await this.#take(step, this.#stepAbort.signal);
        this.#failedAttempts = 0;
        this.#retryAt = undefined;
      } catch (error) {
        if (!this.#stepAbort.signal.aborted) this.#failed(step, error);
        // A create that was cut short may have come through all the same.
        else if (step.kind === "create") this.#observed = undefined;
      } finally {
        clearTimeout(timer);
      }
    }
  }

  /** The decided step, unless the last one failed and its next attempt is not due: then a wait that any news may end. */
  #nextStep(): Step {
    const step = decide(this.#situation());
    if (this.#retryAt === undefined || step.kind === "wait" || step.kind !== this.#failedKind) return step;
    if (this.#parts.now() < this.#retryAt) return { kind: "wait", why: `retrying ${step.kind}`, until: this.#retryAt };
    return step;
  }
  #failedKind: Step["kind"] | undefined;

  #abortAt(controller: AbortController, until: number): NodeJS.Timeout {
    return setTimeout(() => controller.abort(new Error("its time is up")), Math.max(0, until - this.#parts.now()));
  }

  #sleep(until: number | undefined): Promise<void> {
    return new Promise((resolve) => {
      const timer = until === undefined ? undefined : setTimeout(resolve, Math.max(0, until - this.#parts.now()));
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Something is known that was not: the wait ends, or the step under way when another would be decided now. */
  #changed(): void {
    this.#wake();
    if (this.#step.kind === "wait" || !INTERRUPTIBLE.has(this.#step.kind)) return;
    const now = decide(this.#situation());
    if (now.kind !== this.#step.kind || (now.kind === "hooks" && this.#step.kind === "hooks" && now.stage !== this.#step.stage)) {
      // An inspection that is due anyway does not make a pull or a drain wrong.
      if (now.kind !== "inspect") this.#stepAbort.abort(new Error(`the task is to ${now.kind} instead`));
    }
  }

  #failed(step: Step, error: unknown): void {
    const message = this.#parts.secrets.mask(error instanceof Error ? error.message : String(error));
    if (TaskFailure.is(error) && LAUNCH_STEPS.has(step.kind)) {
      this.#note(`${step.kind} failed`, message);
      if (this.#observed?.state === "running") this.stop("hook-failure", message);
      else this.#conclude({ ...failureOutcome(error), message });
      return;
    }
    this.#failedAttempts += 1;
    this.#failedKind = step.kind;
    this.#retryAt = this.#parts.now() + backoffDelay(RETRY_STEP, this.#failedAttempts);
    this.#note(`${step.kind} did not work, trying again`, message);
    this.#parts.log.warn(
      { ...this.#fields(), step: step.kind, attempt: this.#failedAttempts, err: message },
      "a step failed and is tried again",
    );
  }

  async #take(step: Exclude<Step, { kind: "wait" }>, signal: AbortSignal): Promise<void> {
    switch (step.kind) {
      case "inspect":
        return await this.#look();
      case "plan":
        return await this.#makePlan(signal);
      case "report-state":
        return this.#report({ state: step.state });
      case "pull":
        await this.runtime.pull(signal, (text) => this.#note("pulling", text));
        this.#imageReady = true;
        return;
      case "resolve-secrets":
        return await this.#resolveSecrets(signal);
      case "create":
        await this.runtime.create(this.#resolved ?? {}, signal);
        this.#resolved = {};
        this.#createdHere = true;
        this.#note("created", this.runtime.name);
        return await this.#look();
      case "discard":
        await this.runtime.remove();
        this.#note("discarded", "a container that an earlier supervisor created and never started");
        return this.#see({ state: "absent" });
      case "hooks":
        return await this.#runHooks(step.stage, signal);
      case "enter":
        return this.#enter(step.phase);
      case "start":
        await this.runtime.start(signal);
        this.#note("started", this.runtime.name);
        return await this.#look();
      case "report-pending":
        return this.#reportPending();
      case "signal":
        return await this.#signal(step.signal);
      case "conclude":
        return this.#conclude(this.#outcome());
      case "copy-logs":
        this.#lastLines = await this.#parts.logs.finish(this.#observed, this.#checkpoint.outcome as Outcome);
        this.#logsCopied = true;
        return;
      case "report-outcome":
        return this.#reportOutcome();
      case "remove":
        if (this.#checkpoint.outcome === undefined || !this.#parts.keepsContainer(this.#checkpoint.outcome)) await this.runtime.remove();
        else this.#note("kept", `${this.runtime.name}, for a look at it`);
        this.#removed = true;
        return;
      case "finish":
        this.#finished = true;
        this.#parts.secrets.forget();
        this.#parts.onFinished();
        return;
    }
  }

  async #makePlan(signal: AbortSignal): Promise<void> {
    const task = this.#task;
    // Once started, the container keeps what it was created with: neither hooks nor a setting that has changed since can refuse it.
    if (this.#checkpoint.phase !== "preparing" || task === undefined) {
      this.#plan = this.#planAgain(task);
      return;
    }
    let plan = this.runtime.plan(task);
    const result = await this.#parts.hooks.run("beforeCreate", this.#hookTask(plan), { states: this.#checkpoint.hookStates, signal });
    if (result.task !== task) {
      this.#task = result.task;
      plan = this.runtime.plan(result.task);
    }
    this.runtime.addEnvironment(result.environment, "a beforeCreate hook");
    Object.assign(plan.environment, result.environment);
    this.#keep({ hookStates: result.states });
    this.#logPlan(plan);
    this.#plan = plan;
  }

  #planAgain(task: TaskInfo | undefined): PlannedTask {
    try {
      if (task !== undefined) return this.runtime.plan(task);
    } catch (error) {
      this.#parts.log.warn({ ...this.#fields(), err: error }, "a running task would not be accepted any more; it runs on");
    }
    return { environment: {}, origins: {}, gracePeriodMs: this.#parts.defaultGracePeriodMs, warnings: [] };
  }

  #logPlan(plan: PlannedTask): void {
    for (const warning of [...this.#parts.warnings, ...plan.warnings]) this.#note("warning", warning);
    const variables = Object.keys(plan.environment).map((name) => `${name} (${plan.origins[name] ?? "hook"})`);
    this.#parts.log.info({ ...this.#fields(), image: plan.image, variables, warnings: plan.warnings }, "the task is planned");
  }

  async #resolveSecrets(signal: AbortSignal): Promise<void> {
    const { environment, leases } = await this.#parts.secrets.resolve(this.#plan?.environment ?? {}, signal);
    this.#resolved = environment;
    if (leases.length > 0) this.#keep({ leases });
  }

  async #runHooks(stage: Stage, signal: AbortSignal): Promise<void> {
    const budget = this.#checkpoint.stop?.cause === "shutdown" ? AFTER_SHUTDOWN_BUDGET_MS : AFTER_STOP_BUDGET_MS;
    const bounded = stage === "afterStop" ? AbortSignal.any([signal, AbortSignal.timeout(budget)]) : signal;
    if (this.#task !== undefined) {
      const result = await this.#parts.hooks.run(stage, this.#hookTask(), { states: this.#checkpoint.hookStates, signal: bounded });
      this.#keep({ hookStates: result.states });
    }
    // A stop stage that ran out of time has had its turn; so has one whose task ended under it, but then it is run once more as ended.
    if (stage === "beforeStop" && signal.aborted && this.#observed?.state !== "running") return;
    if (stage === "afterStop") {
      await this.#parts.secrets.release();
      this.#cleanedUp = true;
    } else {
      this.#keep({ stages: [...this.#checkpoint.stages.filter((done) => done !== stage), stage] });
    }
  }

  #hookTask(plan: PlannedTask | undefined = this.#plan): HookTask {
    const observed = this.#observed;
    const stop = this.#checkpoint.stop;
    const ended = this.#checkpoint.phase === "ended";
    return {
      identity: this.identity,
      runtime: this.runtime.kind,
      task: this.#task as TaskInfo,
      environment: plan?.environment ?? {},
      ...this.#parts.surroundings,
      ...(this.#checkpoint.id === undefined ? {} : { id: this.#checkpoint.id }),
      ...(observed?.state === "running" ? { pid: observed.pid, addresses: observed.addresses } : {}),
      ...(stop === undefined && !ended
        ? {}
        : {
            stop: {
              cause: stop?.cause ?? (this.#checkpoint.startedAt === undefined ? "launch-failed" : "ended"),
              message: stop?.message ?? this.#checkpoint.outcome?.message ?? "",
              since: stop?.requestedAt ?? this.#parts.now(),
              alreadyEnded: ended || observed?.state !== "running",
              deadline: stop?.signalBy ?? this.#parts.now(),
            },
          }),
    };
  }

  #enter(phase: Phase): void {
    this.#keep({ phase });
  }

  async #signal(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const stop = this.#checkpoint.stop as Stop;
    const now = this.#parts.now();
    // Noted before it is sent: a supervisor that comes back must not start the grace period anew.
    this.#keep({ stop: { ...stop, signalledAt: stop.signalledAt ?? now, ...(signal === "SIGKILL" ? { killedAt: now } : {}) } });
    this.#note(signal, stop.message);
    await this.runtime.signal(signal);
    await this.#look();
  }

  async #look(): Promise<void> {
    const generation = this.#sightings;
    this.#see(await this.runtime.inspect());
    // Something happened while the answer was on its way: it may be older than the news.
    if (generation !== this.#sightings) this.#observed = undefined;
  }

  #see(observed: Observed): void {
    this.#observed = observed;
    if (observed.state === "created" || observed.state === "running") {
      if (this.#checkpoint.id !== observed.id) this.#keep({ id: observed.id });
    }
    if (observed.state === "running") this.#seeRunning(observed);
    if (observed.state === "exited" && this.#checkpoint.startedAt === undefined && observed.exit.startedAt !== undefined) {
      this.#keep({ id: observed.id, startedAt: observed.exit.startedAt });
    }
    if (observed.state !== "running") this.#stopWatching();
  }

  #seeRunning(observed: Extract<Observed, { state: "running" }>): void {
    if (this.#checkpoint.startedAt === undefined) this.#keep({ startedAt: observed.startedAt });
    this.#parts.worker.send({ type: "title", text: this.runtime.title(observed) });
    this.#parts.logs.follow(observed, this.#checkpoint.logs);
    if (this.#endWatches !== undefined || this.#task === undefined || this.#checkpoint.stop !== undefined) return;
    const watched = {
      identity: this.identity,
      task: this.#task,
      launchedAt: this.launchedAt,
      observed,
      healthyBefore: this.#checkpoint.healthy,
    };
    const verdicts = this.#verdicts();
    this.#endWatches = this.#parts.watches.map((watch) => watch.begin(watched, verdicts));
  }

  #stopWatching(): void {
    for (const end of this.#endWatches ?? []) end();
    this.#endWatches = undefined;
  }

  #verdicts(): Verdicts {
    return {
      health: (healthy, report) => {
        if (this.#checkpoint.stop !== undefined) return;
        if (healthy) this.#healthy = true;
        if (this.#checkpoint.healthy !== healthy) this.#keep({ healthy });
        this.#reportedHealth = healthy;
        if (report?.checkStatus !== undefined) this.#checkStatus = report.checkStatus;
        if (report !== undefined) this.#pendingReport = { state: "TASK_RUNNING", healthy, ...report };
        this.#changed();
      },
      check: (report) => {
        if (this.#checkpoint.stop !== undefined) return;
        this.#checkStatus = report.checkStatus ?? this.#checkStatus;
        this.#pendingReport = { state: "TASK_RUNNING", ...report };
        this.#changed();
      },
      stop: (cause, message, gracePeriodMs) => this.stop(cause, message, gracePeriodMs),
    };
  }

  #outcome(): Outcome {
    const { stop } = this.#checkpoint;
    const observed = this.#observed;
    if (observed?.state === "exited" && observed.exit.startedAt !== undefined) {
      const byCode = stop?.cause === "sidecar-unhealthy" && this.#parts.sidecarByExitCode;
      return outcomeOfExit({
        exit: observed.exit,
        stop,
        exitStates: byCode ? "sidecar-executor" : this.#parts.exitStates,
        successState: this.#parts.successState,
        memoryLimitBytes: this.#plan?.memoryLimitBytes,
        noun: this.runtime.noun,
      });
    }
    if (this.#checkpoint.startedAt === undefined && stop !== undefined) {
      return { ...outcomeOfStop(stop, "it had not been started yet"), reason: "REASON_TASK_KILLED_DURING_LAUNCH" };
    }
    return outcomeOfVanishing(stop, this.runtime.name);
  }

  #conclude(outcome: Outcome): void {
    this.#stopWatching();
    const exit = this.#observed?.state === "exited" ? { exit: this.#observed.exit } : {};
    this.#note("ended", `${outcome.state}: ${outcome.message}`);
    this.#keep({ phase: "ended", outcome, ...exit });
    this.#parts.log.info({ ...this.#fields(), state: outcome.state, reason: outcome.reason, message: outcome.message }, "the task ended");
    this.#parts.onConcluded(outcome);
    this.#changed();
  }

  #report(update: RequestedUpdate): void {
    const observed = this.#observed;
    const full: RequestedUpdate = { ...update };
    if (this.#checkStatus !== undefined && full.checkStatus === undefined) full.checkStatus = this.#checkStatus;
    if (full.checkStatus === undefined && this.#task?.check !== undefined) {
      const member = this.#task.check.type.toLowerCase();
      full.checkStatus = { type: this.#task.check.type, [member]: {} };
    }
    if (full.healthy === undefined && this.#reportedHealth !== undefined) full.healthy = this.#reportedHealth;
    if (observed?.state === "running" && observed.addresses.length > 0) {
      full.containerStatus = {
        network_infos: observed.addresses.map(({ network, protocol, address }) => ({
          name: network,
          ip_addresses: [{ protocol, ip_address: address }],
        })),
      };
    }
    this.#parts.worker.send({ type: "update", taskId: this.identity.taskId, update: full });
    this.#parts.onUpdate(full);
    this.#lastStatus = { state: full.state, at: this.#parts.now(), ...(full.message === undefined ? {} : { message: full.message }) };
    this.#note(full.state, full.message);
    this.#parts.log.info(
      { ...this.#fields(), state: full.state, healthy: full.healthy, reason: full.reason },
      "an update goes to the agent",
    );
  }

  #reportPending(): void {
    const report = this.#pendingReport;
    this.#pendingReport = undefined;
    if (report !== undefined) this.#report(report);
  }

  #reportOutcome(): void {
    const outcome = this.#checkpoint.outcome as Outcome;
    const exitCode = this.#checkpoint.exit?.exitCode;
    const lines = outcome.state === "TASK_FAILED" ? this.#lastLines.slice(-LAST_LINES_IN_MESSAGE) : [];
    const message = lines.length === 0 ? outcome.message : `${outcome.message}; last output:\n${lines.join("\n")}`;
    this.#report({
      state: outcome.state,
      message: this.#parts.secrets.mask(message),
      ...(outcome.reason === undefined ? {} : { reason: outcome.reason }),
      ...(outcome.healthy === undefined ? {} : { healthy: outcome.healthy }),
      ...(exitCode === undefined ? {} : { labels: [{ key: "berth.exit-code", value: String(exitCode) }] }),
    });
  }

  #keep(patch: Partial<Checkpoint>): void {
    this.#checkpoint = { ...this.#checkpoint, ...patch };
    this.#sequence += 1;
    this.#sendCheckpoint();
  }

  #sendCheckpoint(): void {
    this.#parts.worker.send({ type: "checkpoint", taskId: this.identity.taskId, sequence: this.#sequence, data: this.#checkpoint });
  }

  #note(what: string, detail?: string): void {
    const masked = detail === undefined ? undefined : this.#parts.secrets.mask(detail);
    const event = { at: this.#parts.now(), what, ...(masked === undefined ? {} : { detail: masked }) };
    this.events.push(event);
    this.#parts.onEvent(event);
    if (this.events.length > MAX_EVENTS) this.events.shift();
    this.#parts.log.debug({ ...this.#fields(), what, detail: masked }, "task event");
  }

  #fields(): { taskId: string; name: string } {
    return { taskId: this.identity.taskId, name: this.runtime.name };
  }
}

/** Shutdown grace period of an agent that names none, milliseconds (the agent's own default). */
const SHUTDOWN_GRACE_MS = 5000;
/** What is left of it for the terminal update after the process is gone: Mesos's own executors keep the same reserve. */
const SHUTDOWN_RESERVE_MS = 2000;
/** What deregistration gets before the first signal of a shutdown. */
const SHUTDOWN_HOOKS_MS = 500;

/** Steps that may take long and lose nothing when they are cut short. */
const INTERRUPTIBLE: ReadonlySet<Step["kind"]> = new Set(["plan", "pull", "resolve-secrets", "create", "hooks"]);
/** Steps whose TaskFailure is the task's end; in any other step it is worth another attempt. */
const LAUNCH_STEPS: ReadonlySet<Step["kind"]> = new Set(["plan", "pull", "resolve-secrets", "create", "hooks", "start"]);

function failureOutcome(failure: TaskFailure): Outcome {
  return { state: failure.state, reason: failure.reason, message: failure.message };
}

/** What `berth inspect` shows of a task. */
export interface TaskDescription {
  identity: TaskIdentity;
  name: string;
  runtime: "docker" | "process";
  phase: Phase;
  step: string;
  observed: Observed | undefined;
  lastStatus: TaskRecord["lastStatus"];
  worker: WorkerPort["presence"];
  launchedAt: number;
  healthy: boolean | undefined;
  stop: Stop | undefined;
  outcome: Outcome | undefined;
  image: string | undefined;
  environment: Record<string, string> | undefined;
  environmentOrigins: Record<string, string> | undefined;
  task: TaskInfo | undefined;
  events: readonly TaskEvent[];
}
