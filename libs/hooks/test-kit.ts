/** For this library's tests: tasks as hooks see them, and a runner whose supervisor may die. */
import { TaskInfo } from "@berth/mesos/task-info";
import type { Hook, HookLog, HookStop, HookTask, Stage } from "./lifecycle.ts";
import { HookRunner } from "./runner.ts";

export const silent: HookLog = { debug: () => {}, info: () => {}, warn: () => {} };

let tasks = 0;

/** A task for hooks. Each has ids of its own. */
export function hookTask(info: object = {}, more: Partial<HookTask> = {}): HookTask {
  tasks += 1;
  const taskId = `app.${process.pid}-${tasks}`;
  return {
    identity: { frameworkId: "framework", executorId: taskId, containerId: `container-${process.pid}-${tasks}`, taskId },
    runtime: "docker",
    task: TaskInfo.parse({ task_id: { value: taskId }, ...info }),
    environment: {},
    executorEnvironment: {},
    agentHostname: "agent.example",
    sandbox: "/nowhere",
    ...more,
  };
}

export function labels(entries: Record<string, string>): { labels: { labels: Array<{ key: string; value: string }> } } {
  return { labels: { labels: Object.entries(entries).map(([key, value]) => ({ key, value })) } };
}

export const ENDED: HookStop = { cause: "ended", message: "", since: Date.now(), alreadyEnded: true, deadline: 0 };
export const KILLED: HookStop = { cause: "framework-kill", message: "", since: Date.now(), alreadyEnded: false, deadline: 0 };

/** One task's hooks under a supervisor that keeps their states, or dies and forgets them. */
export class TestSupervisor {
  readonly #runner: HookRunner;
  states: Record<string, unknown> = {};
  readonly warnings: object[] = [];

  constructor(...hooks: Hook[]) {
    this.#runner = new HookRunner(hooks, { ...silent, warn: (fields) => void this.warnings.push(fields) });
  }

  async run(stage: Stage, task: HookTask, signal: AbortSignal = new AbortController().signal): Promise<HookTask> {
    const result = await this.#runner.run(stage, task, { states: this.states, signal });
    this.states = result.states;
    return { ...task, task: result.task, environment: { ...task.environment, ...result.environment } };
  }

  /** The stage takes effect, and the supervisor dies before it has kept what came of it. */
  async runAndDie(stage: Stage, task: HookTask): Promise<void> {
    await this.#runner.run(stage, task, { states: this.states, signal: new AbortController().signal });
  }

  /** The supervisor dies (is killed, as far as a hook can see) so soon after the stage has begun. */
  async dieDuring(stage: Stage, task: HookTask, afterMs: number): Promise<void> {
    const death = AbortSignal.timeout(afterMs);
    await this.#runner.run(stage, task, { states: this.states, signal: death }).catch(() => {});
  }
}
