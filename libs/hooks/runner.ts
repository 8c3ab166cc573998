import { TaskFailure } from "@berth/mesos";
import type { TaskInfo } from "@berth/mesos/task-info";
import type { Hook, HookLog, HookResult, HookTask, Stage } from "./lifecycle.ts";

export interface StageRequest {
  /** What each hook returned as state earlier, by hook name. */
  states: Readonly<Record<string, unknown>>;
  /** Ends the stage early: the task was killed, or its deadline has come. */
  signal: AbortSignal;
}

export interface StageResult {
  states: Record<string, unknown>;
  /** beforeCreate only: variables that hooks add. */
  environment: Record<string, string>;
  /** beforeCreate only: the TaskInfo as the last hook left it. */
  task: TaskInfo;
}

/** Runs the hooks of a stage in order, with their timeouts, and keeps their states. */
export class HookRunner {
  readonly hooks: readonly Hook[];
  readonly #log: HookLog;

  constructor(hooks: readonly Hook[], log: HookLog) {
    this.hooks = [...hooks].sort((a, b) => a.priority - b.priority || (a.name < b.name ? -1 : 1));
    this.#log = log;
  }

  /** The hooks that take part in a stage, in the order in which they run. */
  of(stage: Stage): Hook[] {
    return this.hooks.filter((hook) => hook.stages[stage] !== undefined);
  }

  /**
   * Runs one stage. In a start stage the first failure of a hook that `failsTask` ends it with a {@link TaskFailure}; all other
   * failures are logged and the next hook runs. In the stop stages every hook gets its turn, even after the signal aborted: then
   * with an aborted signal, so that it can do what needs no waiting.
   */
  async run(stage: Stage, task: HookTask, request: StageRequest): Promise<StageResult> {
    const result: StageResult = { states: { ...request.states }, environment: {}, task: task.task };
    for (const hook of this.of(stage)) {
      if (isStartStage(stage)) request.signal.throwIfAborted();
      const current: HookTask = { ...task, task: result.task, environment: { ...task.environment, ...result.environment } };
      try {
        const returned = await this.#runOne(hook, stage, current, { ...request, states: result.states });
        if (returned?.state !== undefined) result.states[hook.name] = returned.state;
        if (stage === "beforeCreate") {
          Object.assign(result.environment, returned?.environment);
          result.task = returned?.task ?? result.task;
        }
      } catch (error) {
        this.#handleFailure(hook, stage, task, request.signal, error);
      }
    }
    return result;
  }

  async #runOne(hook: Hook, stage: Stage, task: HookTask, request: StageRequest): Promise<HookResult | undefined> {
    const run = hook.stages[stage];
    if (run === undefined) return undefined;
    const timeout = AbortSignal.timeout(hook.timeoutMs);
    const signal = AbortSignal.any([request.signal, timeout]);
    const log = boundLog(this.#log, { hook: hook.name, stage, taskId: task.identity.taskId });
    const running = Promise.resolve(run(task, { signal, state: request.states[hook.name], log }));
    running.catch(() => {}); // A hook that is left behind at its timeout may still reject later.
    try {
      return await Promise.race([running, aborted(signal, timeout, hook, stage)]);
    } catch (error) {
      // A hook that heeds its signal says only that it was aborted.
      throw error === timeout.reason && !request.signal.aborted ? unfinished(hook, stage) : error;
    }
  }

  #handleFailure(hook: Hook, stage: Stage, task: HookTask, signal: AbortSignal, error: unknown): void {
    if (isStartStage(stage) && signal.aborted) throw signal.reason;
    if (isStartStage(stage) && hook.failsTask) {
      if (TaskFailure.is(error)) throw error;
      throw new TaskFailure(`hook ${hook.name} failed in ${stage}: ${messageOf(error)}`, { cause: error });
    }
    this.#log.warn({ hook: hook.name, stage, taskId: task.identity.taskId, err: error }, "a hook failed; the task goes on");
  }
}

function isStartStage(stage: Stage): boolean {
  return stage !== "beforeStop" && stage !== "afterStop";
}

/** Hooks are asked to heed their signal; this one makes sure that one which does not cannot block the task. */
function aborted(signal: AbortSignal, timeout: AbortSignal, hook: Hook, stage: Stage): Promise<never> {
  return new Promise((_, reject) => {
    const fail = (): void => {
      // An aborted stop stage still lets each hook do what it can at once: it gets a turn of the event loop and some I/O.
      setTimeout(() => reject(timeout.aborted ? unfinished(hook, stage) : signal.reason), ABORT_GRACE_MS);
    };
    if (signal.aborted) fail();
    else signal.addEventListener("abort", fail, { once: true });
  });
}

function unfinished(hook: Hook, stage: Stage): Error {
  return new Error(`hook ${hook.name} did not finish ${stage} within ${hook.timeoutMs} ms`);
}

/** What an aborted hook gets to wind up before it is left behind, in milliseconds. */
const ABORT_GRACE_MS = 200;

function boundLog(log: HookLog, fixed: object): HookLog {
  return {
    debug: (fields, message) => log.debug({ ...fixed, ...fields }, message),
    info: (fields, message) => log.info({ ...fixed, ...fields }, message),
    warn: (fields, message) => log.warn({ ...fixed, ...fields }, message),
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
