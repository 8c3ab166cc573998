import type { LogLine } from "@berth/admin-api";
import { formatDuration } from "@berth/duration";
import type { HookTask, Stage } from "@berth/hooks";
import { isTerminal, TaskFailure, type TaskState } from "@berth/mesos";
import type { TaskInfo } from "@berth/mesos/task-info";
import type { RequestedUpdate, TaskRecord, Wanted } from "@berth/protocol";
import { backoffDelay } from "@berth/retry";
import type { Observed, TaskIdentity } from "@berth/runtime";
import { CheckpointKeeper } from "./checkpoint.ts";
import { ClockJumps } from "./clock-jumps.ts";
import { decide, type Step } from "./decide.ts";
import { type Outcome, outcomeOfExit, outcomeOfStop, outcomeOfVanishing } from "./outcome.ts";
import type { LogQuery, TaskEvent, Verdicts } from "./ports.ts";
import { Reporting, terminalUpdate } from "./reporting.ts";
import { ImageGone, type PlannedTask, type TaskRuntime } from "./runtime.ts";
import type { Checkpoint, Phase, Situation } from "./situation.ts";
import type { Stop, StopCause } from "./stop.ts";
import { mergeStop, type StopRequest, shiftStop, stopRequestOf } from "./stop-requests.ts";
import type { TaskDescription, TaskParts } from "./task-parts.ts";
import { secretValues, withoutSecrets } from "./task-secrets.ts";
import { within } from "./within.ts";

const RETRY_STEP = { attempts: Number.POSITIVE_INFINITY, firstDelayMs: 250, maxDelayMs: 10_000 };
const MAX_EVENTS = 100;
/** All afterStop hooks together: the agent waits for the terminal update, and the framework for the resources. */
const AFTER_STOP_BUDGET_MS = 30_000;
/** After a shutdown the agent kills the executor soon: half of what is kept back of its grace period. */
const AFTER_SHUTDOWN_BUDGET_MS = 1000;
/** The last output is a help, the terminal update is a duty: it waits no longer than this for it. */
const LAST_LOGS_BUDGET_MS = 15_000;
/** While a task is stopped a runtime that does not answer is given up after this long, and its process is looked at directly. */
const STOP_PATIENCE_MS = 5000;
/** How long the runtime has to tell the exit status of a process that is gone, before the end is told without it. */
const EXIT_STATUS_PATIENCE_MS = 10_000;
/** What cannot be removed for this long is left to the reaper: the agent and the framework are not to wait for a busy disk. */
const REMOVAL_PATIENCE_MS = 60_000;
/** A pull tells its progress every second; a task's events are no place for all of it. */
const PULL_NOTE_EVERY_MS = 5000;

/**
 * The reconciler of one task. It holds what is known, asks {@link decide} for the next step, takes it, and asks again.
 *
 * INVARIANTS
 * - One step is under way at a time.
 * - Whatever comes in (a kill, a container event, a worker that returns) only changes what is known and wakes the loop. When
 *   the step under way is then no longer the step decided, it is aborted: so a KILL cuts a pull short, and an exit a drain.
 * - An irreversible step (start, first signal, remove) is decided only when the worker holds the checkpoint that allows it.
 * - At most one terminal update is asked for; it is asked again after a worker's return until the worker has taken it.
 * - Nothing that goes wrong in here ends the loop, or reaches another task.
 */
export class Task {
  readonly identity: TaskIdentity;
  readonly launchedAt: number;
  readonly group: readonly string[] | undefined;
  readonly runtime: TaskRuntime;
  readonly events: TaskEvent[] = [];
  readonly #parts: TaskParts;
  #task: TaskInfo | undefined;
  readonly #kept: CheckpointKeeper;
  readonly #reporting: Reporting;
  readonly #jumps: ClockJumps;
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
  #terminalAcknowledged: boolean;
  #healthy: boolean;
  /** What keeps the step under way from going on, in words; undefined where nothing is known to. */
  #waitsFor: string | undefined;
  /** The secrets of a container from an earlier life are hidden again. */
  #hidden = false;
  /** Some of them cannot be: what the task wrote is repeated nowhere. */
  #unknownSecrets = false;
  #goneSince: number | undefined;
  #removingSince: number | undefined;
  #pullNotedAt = Number.NEGATIVE_INFINITY;
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
    this.#kept = new CheckpointKeeper(parts.record, {
      send: (message) => parts.worker.send(message),
      onDropped: (what) => this.#note("warning", `its checkpoint grew too large and lost its ${what}`),
    });
    this.#reporting = new Reporting(parts.record);
    this.#jumps = new ClockJumps(parts.now, parts.monotonic);
    this.#terminalAcknowledged = parts.record.terminalAcknowledged === true;
    if (!this.#kept.readable) {
      parts.log.error(this.#fields(), "a task's checkpoint cannot be read; it is taken for one that was started");
      this.#keep({});
    }
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
    this.#stopIfToldOver();
  }

  get #checkpoint(): Checkpoint {
    return this.#kept.data;
  }

  /** How the task ended; undefined while it has not. */
  get outcome(): Outcome | undefined {
    return this.#checkpoint.outcome;
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
      step:
        this.#step.kind === "wait"
          ? this.#step.why
          : this.#waitsFor === undefined
            ? this.#step.kind
            : `${this.#step.kind}: ${this.#waitsFor}`,
      observed: this.#observed,
      lastStatus: this.#reporting.lastStatus,
      worker: this.#parts.worker.presence,
      launchedAt: this.launchedAt,
      healthy: this.#reporting.healthy,
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
    this.#stop(stopRequestOf(wanted, { defaultGraceMs: this.#defaultGrace(), now: this.#parts.now() }));
  }

  /** A stop that the supervisor or its operator decides. */
  stop(cause: StopCause, message: string, gracePeriodMs: number = this.#defaultGrace()): void {
    this.#stop({ cause, message, gracePeriodMs, requestedAt: this.#parts.now() });
  }

  /** The task's output, for `berth logs`. */
  output(query: LogQuery, signal: AbortSignal): AsyncIterable<LogLine> {
    return this.#parts.logs.read(query, signal);
  }

  /** The runtime may look different now. */
  observeAgain(): void {
    this.#sightings += 1;
    this.#observed = undefined;
    this.#changed();
  }

  /** The worker is back, with what it holds of the task. */
  workerReturned(record: TaskRecord): void {
    this.#reporting.workerReturned(record);
    if (record.terminalAcknowledged === true) this.#terminalAcknowledged = true;
    this.#kept.returned(record.checkpoint);
    this.runtime.workerTold?.(record);
    if (record.wanted !== undefined) this.want(record.wanted);
    this.#stopIfToldOver();
    this.observeAgain();
  }

  /** A worker that no supervisor served in time has told the task's end by itself: what is left of it must go, and nothing be started. */
  #stopIfToldOver(): void {
    if (this.#reporting.ended && this.#checkpoint.stop === undefined)
      this.stop("worker-gave-up", "its executor has reported its end already");
  }

  /** The worker is away or dead. */
  workerLeft(): void {
    if (this.#parts.worker.presence !== "dead") return this.#changed();
    if (this.#checkpoint.stop === undefined) this.stop("worker-died", "its executor died");
    this.runtime.workerDied?.();
    // A process ends with its worker.
    this.observeAgain();
  }

  held(sequence: number): void {
    this.#kept.held(sequence);
    this.#changed();
  }

  acknowledged(state: TaskState): void {
    if (isTerminal(state)) this.#terminalAcknowledged = true;
    this.#changed();
  }

  /** New log positions to be held; nothing waits for them. */
  keepLogPosition(position: unknown): void {
    if (!this.#finished) this.#kept.keepLogPosition(position);
  }

  /** A hook's state beside its stages: what it must not lose when the supervisor dies in the middle of one. */
  keepHookState(name: string, state: unknown): void {
    if (!this.#finished) this.#kept.keepHookState(name, state);
  }

  /** The task's leases have new ends. */
  keepLeases(leases: unknown[]): void {
    if (!this.#finished) this.#keep({ leases });
  }

  #defaultGrace(): number {
    const policy = this.#task?.kill_policy?.grace_period;
    return policy === undefined ? (this.#plan?.gracePeriodMs ?? this.#parts.defaultGracePeriodMs) : policy.nanoseconds / 1e6;
  }

  #stop(request: StopRequest): void {
    if (this.#checkpoint.phase === "ended") return;
    this.#noticeClockJump();
    const before = this.#checkpoint.stop;
    const drainMs = this.#parts.hooks.of("beforeStop").reduce((sum, hook) => sum + hook.timeoutMs, 0);
    const stop = mergeStop(before, request, { now: this.#parts.now(), drainMs });
    if (stop === undefined) return;
    if (before === undefined) this.#note("stop", `${request.message} (grace period ${formatDuration(request.gracePeriodMs)})`);
    else this.#note("stop sooner", request.message);
    this.#keep({ stop });
    this.#changed();
  }

  /** A clock that is set must neither cut a grace period short nor make it last for hours. */
  #noticeClockJump(): void {
    const jump = this.#jumps.take();
    if (jump === 0) return;
    const { stop } = this.#checkpoint;
    this.#parts.log.warn({ ...this.#fields(), jumpMs: Math.round(jump) }, "the host's clock was set; the task's deadlines are moved along");
    if (this.#retryAt !== undefined) this.#retryAt += jump;
    if (stop !== undefined && this.#checkpoint.phase !== "ended") this.#keep({ stop: shiftStop(stop, jump) });
  }

  #situation(): Situation {
    const { parts, checkpoint } = { parts: this.#parts, checkpoint: this.#checkpoint };
    const presence = parts.worker.presence;
    return {
      now: parts.now(),
      checkpoint,
      held: presence === "dead" || this.#kept.isHeld,
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
      lastStatus: this.#reporting.lastStatus,
      terminalAcknowledged: this.#terminalAcknowledged,
      takesKilling: parts.takesKilling,
      healthy: this.#healthy,
      ...(this.#reporting.pending === undefined ? {} : { pendingReport: this.#reporting.pending }),
    };
  }

  async #loop(): Promise<void> {
    while (!this.#finished) {
      try {
        await this.#turn();
      } catch (err) {
        // A fault of ours: the task goes on as well as it can, and no other notices.
        this.#parts.log.error({ ...this.#fields(), err }, "a task's reconciler failed; it goes on");
        await this.#sleep(this.#parts.now() + RETRY_STEP.maxDelayMs);
      }
    }
  }

  async #turn(): Promise<void> {
    this.#noticeClockJump();
    const step = this.#nextStep();
    this.#step = step;
    if (step.kind === "wait") return await this.#sleep(step.until);
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
      // Node's timers overflow after 24.8 days; one that ends too early only has the step decided again.
      const timer = until === undefined ? undefined : setTimeout(resolve, Math.min(MAX_TIMER_MS, Math.max(0, until - this.#parts.now())));
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
      // An inspection that is due anyway does not make a pull or a drain wrong; what it shows may.
      if (now.kind !== "inspect") this.#stepAbort.abort(new Error(`the task is to ${now.kind} instead`));
      else if (this.#step.kind === "hooks") void this.#lookAside();
    }
  }

  /** Looks at the runtime while hooks run: a drain of minutes must not hide that its task has ended. */
  async #lookAside(): Promise<void> {
    const generation = this.#sightings;
    try {
      const observed = await this.#inspect();
      if (generation !== this.#sightings || this.#step.kind !== "hooks") return;
      this.#see(observed);
      this.#changed();
    } catch {
      // The step's end is followed by a look that is tried again.
    }
  }

  #failed(step: Step, error: unknown): void {
    const message = this.#parts.secrets.mask(error instanceof Error ? error.message : String(error));
    if (error instanceof ImageGone) this.#imageReady = false;
    if (TaskFailure.is(error) && LAUNCH_STEPS.has(step.kind) && this.#checkpoint.stop === undefined) {
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
        await this.runtime.pull(signal, (text) => this.#notePull(text));
        this.#imageReady = true;
        return;
      case "resolve-secrets":
        return await this.#resolveSecrets(signal);
      case "create":
        await this.runtime.create(this.#resolved ?? {}, signal);
        // The values are not kept: a container that has to be made once more gets them read anew.
        this.#resolved = undefined;
        this.#hidden = true;
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
        return await this.#copyLogs();
      case "report-outcome":
        return this.#reportOutcome();
      case "remove":
        return await this.#remove();
      case "finish":
        this.#finished = true;
        this.#stopWatching();
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
    plan.warnings.push(...(this.runtime.judge?.() ?? []));
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
    try {
      const waiting = (reason: string): void => {
        if (reason !== this.#waitsFor) this.#note("waiting", reason);
        this.#waitsFor = reason;
      };
      const { environment, leases } = await this.#parts.secrets.resolve(this.#plan?.environment ?? {}, signal, waiting);
      this.#resolved = environment;
      this.#keepResolvedLeases(leases);
    } finally {
      this.#waitsFor = undefined;
    }
  }

  #keepResolvedLeases(leases: unknown[]): void {
    if (leases.length > 0) this.#keep({ leases: [...(this.#checkpoint.leases ?? []), ...leases] });
  }

  async #runHooks(stage: Stage, signal: AbortSignal): Promise<void> {
    const budget = this.#checkpoint.stop?.cause === "shutdown" ? AFTER_SHUTDOWN_BUDGET_MS : AFTER_STOP_BUDGET_MS;
    const bounded = stage === "afterStop" ? AbortSignal.any([signal, AbortSignal.timeout(budget)]) : signal;
    if (this.#task !== undefined) {
      const before = this.#checkpoint.hookStates;
      const { states } = await this.#parts.hooks.run(stage, this.#hookTask(), { states: before, signal: bounded });
      // Only what the stage has changed: a watch may have kept something meanwhile.
      const changed = Object.entries(states).filter(([name, state]) => state !== before[name]);
      this.#keep({ hookStates: { ...this.#checkpoint.hookStates, ...Object.fromEntries(changed) } });
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
    const logs = phase === "starting" && this.#observed?.state === "created" ? this.#parts.logs.beginning?.() : undefined;
    this.#keep({ phase, ...(logs === undefined ? {} : { logs }) });
  }

  async #signal(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const stop = this.#checkpoint.stop as Stop;
    const now = this.#parts.now();
    // Noted before it is sent: a supervisor that comes back must not start the grace period anew.
    this.#keep({ stop: { ...stop, signalledAt: stop.signalledAt ?? now, ...(signal === "SIGKILL" ? { killedAt: now } : {}) } });
    this.#note(signal, stop.message);
    try {
      await within(STOP_PATIENCE_MS, (abort) => this.runtime.signal(signal, abort));
    } catch (error) {
      const process = this.#process;
      if (process === undefined) throw error;
      const sent = this.runtime.signalDirectly?.(process, signal) === true;
      // One that is gone needs no signal: what is to be done about that, the look at it tells.
      if (!sent && this.runtime.glimpse?.(process) !== "gone") throw error;
      if (sent) this.#note(`${signal} sent to the process itself`, error instanceof Error ? error.message : String(error));
    }
    await this.#look();
  }

  /**
   * The values that an earlier supervisor read for this container are known to this one only from the container itself. Without
   * them the task's last words, of all things, would be told unmasked.
   */
  async #hideAgain(): Promise<void> {
    this.#hidden = true;
    const { secrets } = this.#parts;
    const references = secrets.references((this.#plan ?? this.#planAgain(this.#task)).environment);
    if (references.length === 0) return;
    try {
      const values = (await this.runtime.environmentOf?.(references.map(({ name }) => name))) ?? {};
      for (const { name, reference } of references) {
        const value = values[name];
        if (value === undefined) this.#unknownSecrets = true;
        else if (value !== reference) secrets.hide(name, value, reference);
      }
      if (this.#unknownSecrets)
        this.#note("warning", "secrets in its output are not known any more; its end is told without its last lines");
    } catch (err) {
      this.#hidden = false;
      this.#parts.log.warn({ ...this.#fields(), err }, "the secrets of a running task cannot be hidden again yet");
    }
  }

  /** The process of the task, where it can be found without its runtime. */
  get #process(): { id: string; pid: number } | undefined {
    const { id, pid } = this.#checkpoint;
    return id === undefined || pid === undefined || this.runtime.glimpse === undefined ? undefined : { id, pid };
  }

  async #inspect(): Promise<Observed> {
    const process = this.#checkpoint.stop === undefined ? undefined : this.#process;
    if (process === undefined) return await this.runtime.inspect();
    try {
      return await within(STOP_PATIENCE_MS, (abort) => this.runtime.inspect(abort));
    } catch (error) {
      return this.#glimpse(process, error);
    }
  }

  /** A stop must come to its end although the engine hangs: the process itself is looked at. */
  #glimpse(process: { id: string; pid: number }, error: unknown): Observed {
    const now = this.#parts.monotonic();
    if (this.runtime.glimpse?.(process) === "running") {
      this.#goneSince = undefined;
      return { state: "running", ...process, startedAt: this.#checkpoint.startedAt ?? 0, addresses: [] };
    }
    this.#goneSince ??= now;
    if (now - this.#goneSince < EXIT_STATUS_PATIENCE_MS) {
      this.#observed = undefined;
      throw error;
    }
    return { state: "absent", why: `its process is gone, but its exit status is unknown because the engine does not answer` };
  }

  /** How the task's process was seen last; its end is known also while, after missed events, it is to be looked at again. */
  get #lastSeen(): Observed | undefined {
    const { id, exit } = this.#checkpoint;
    return this.#observed ?? (id === undefined || exit === undefined ? undefined : { state: "exited", id, exit });
  }

  async #copyLogs(): Promise<void> {
    try {
      this.#lastLines = await within(LAST_LOGS_BUDGET_MS, () =>
        this.#parts.logs.finish(this.#lastSeen, this.#checkpoint.outcome as Outcome, this.#checkpoint.logs),
      );
    } catch (error) {
      this.#note("warning", `its last output could not be copied: ${error instanceof Error ? error.message : String(error)}`);
    }
    this.#logsCopied = true;
  }

  async #remove(): Promise<void> {
    const { outcome, exit } = this.#checkpoint;
    const now = this.#parts.monotonic();
    this.#removingSince ??= now;
    if (outcome !== undefined && this.#parts.keepsContainer(outcome, exit?.finishedAt)) {
      this.#note("kept", `${this.runtime.name}, for a look at it`);
    } else if (now - this.#removingSince > REMOVAL_PATIENCE_MS) {
      this.#note("left behind", `${this.runtime.name} cannot be removed now; it is tried again later`);
      this.#parts.log.warn(this.#fields(), "a container cannot be removed; its worker is let go and the removal is tried again later");
    } else await this.runtime.remove();
    this.#removed = true;
  }

  async #look(): Promise<void> {
    const generation = this.#sightings;
    const observed = await this.#inspect();
    if (!this.#hidden && this.#checkpoint.phase !== "preparing" && observed.state !== "absent") await this.#hideAgain();
    this.#see(observed);
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
    if (this.#checkpoint.startedAt === undefined) {
      const pid = this.runtime.pidOf?.(observed);
      this.#keep({ startedAt: observed.startedAt, ...(pid === undefined ? {} : { pid }) });
    }
    this.#parts.worker.send({ type: "title", text: this.runtime.title(observed) });
    this.#parts.logs.follow(observed, this.#checkpoint.logs);
    if (this.#endWatches !== undefined || this.#task === undefined || this.#checkpoint.stop !== undefined) return;
    const watched = {
      identity: this.identity,
      task: this.#task,
      launchedAt: this.launchedAt,
      observed,
      healthyBefore: this.#checkpoint.healthy,
      hookStates: this.#checkpoint.hookStates,
    };
    const verdicts = this.#verdicts();
    const ends: Array<() => void> = [];
    this.#endWatches = ends;
    for (const watch of this.#parts.watches) {
      try {
        ends.push(watch.begin(watched, verdicts));
      } catch (err) {
        this.#parts.log.error({ ...this.#fields(), watch: watch.name, err }, "a watch over a task could not begin");
      }
    }
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
        this.#reporting.health(healthy, report);
        this.#changed();
      },
      check: (report) => {
        if (this.#checkpoint.stop !== undefined) return;
        this.#reporting.check(report);
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
    return outcomeOfVanishing(stop, this.runtime.name, observed?.state === "absent" ? observed.why : undefined);
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
    const full = this.#reporting.complete(update, { task: this.#task, observed: this.#observed, now: this.#parts.now() });
    this.#parts.worker.send({ type: "update", taskId: this.identity.taskId, update: full });
    this.#parts.onUpdate(full);
    this.#note(full.state, full.message);
    this.#parts.log.info(
      { ...this.#fields(), state: full.state, healthy: full.healthy, reason: full.reason },
      "an update goes to the agent",
    );
  }

  #reportPending(): void {
    const report = this.#reporting.takePending();
    if (report !== undefined) this.#report(report);
  }

  #reportOutcome(): void {
    const { outcome, exit } = this.#checkpoint;
    const lastLines = this.#unknownSecrets ? [] : this.#lastLines;
    this.#report(terminalUpdate(outcome as Outcome, exit, lastLines, (text) => this.#parts.secrets.mask(text)));
  }

  #keep(patch: Partial<Checkpoint>): void {
    this.#kept.keep(patch);
  }

  #notePull(text: string): void {
    const now = this.#parts.monotonic();
    if (now - this.#pullNotedAt < PULL_NOTE_EVERY_MS) return;
    this.#pullNotedAt = now;
    this.#note("pulling", text);
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

/** Node's timers overflow beyond this. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Steps that may take long and lose nothing when they are cut short. */
const INTERRUPTIBLE: ReadonlySet<Step["kind"]> = new Set(["plan", "pull", "resolve-secrets", "create", "hooks"]);
/** Steps whose TaskFailure is the task's end; in any other step it is worth another attempt. */
const LAUNCH_STEPS: ReadonlySet<Step["kind"]> = new Set(["plan", "pull", "resolve-secrets", "create", "hooks", "start"]);

function failureOutcome(failure: TaskFailure): Outcome {
  return { state: failure.state, reason: failure.reason, message: failure.message };
}
