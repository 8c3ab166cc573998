/**
 * Random sequences of everything that happens to a worker: launches, kills, exits, held acknowledgements, broken and stolen
 * streams, false answers, agent restarts, supervisors that come and go. Whatever the order: no update is lost, reordered or
 * said after a terminal one, each task has exactly one terminal update, and the worker ends with 0.
 *
 * BERTH_MODEL_RUNS: how many sequences (default 60). BERTH_MODEL_SEED: the first seed, to see a failure again. BERTH_MODEL_WORKER=process: each in
 * a worker process of its own, instead of the worker's core in this one.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { LocalExecutor, StreamEnd } from "@berth/mesos/local-agent";
import { waitFor } from "@berth/test-harness";
import fc from "fast-check";
import { type InProcessWorker, runInProcess } from "./in-process-worker.ts";
import { WorkerStage } from "./stage-test-kit.ts";

const runs = Number(process.env.BERTH_MODEL_RUNS ?? 60);
const inProcess = process.env.BERTH_MODEL_WORKER !== "process";
/** Ends only when all commands are done, so that the worker does not leave before. */
const ANCHOR = "anchor";

/** What the commands know without looking: ids launched so far, and which of them somebody wanted killed. */
interface Model {
  tasks: string[];
  killed: Set<string>;
}

class World {
  readonly stage: WorkerStage;
  readonly executor: LocalExecutor;
  readonly worker: InProcessWorker | undefined;
  restarted: Promise<void> | undefined;
  supervisorUp = true;

  constructor(stage: WorkerStage) {
    this.stage = stage;
    this.executor = inProcess
      ? stage.agent.startExecutor({
          executorId: "x",
          command: "exec sleep 600",
          environment: { PATH: process.env.PATH ?? "", BERTH_SOCKET: stage.supervisor.path },
        })
      : stage.worker();
    this.executor.launch({ task_id: { value: ANCHOR } });
    this.worker = inProcess ? runInProcess(this.executor) : undefined;
  }

  /** Everything is well again, every task ends: then the worker has to. */
  async settle({ tasks }: Model): Promise<number | null> {
    await this.restarted;
    this.stage.agent.faults.holdAcknowledgements(false);
    if (!this.supervisorUp) await this.stage.supervisor.listen();
    for (const taskId of [...tasks, ANCHOR]) this.stage.supervisor.end(taskId, "TASK_FINISHED");
    const code = this.worker?.exited ?? this.executor.exited.then((end) => end.code);
    let ended: { code: number | null } | undefined;
    void code.then((value) => {
      ended = { code: value };
    });
    return (await waitFor(() => ended, { what: `the worker's end; ${this.describe()}` })).code;
  }

  statesOf(taskId: string): string[] {
    return this.executor.updates.filter((update) => update.task_id.value === taskId).map((update) => update.state);
  }

  /** Whether a supervisor ever heard of the task: then the worker had it. */
  wasHeld(taskId: string): boolean {
    return this.stage.supervisor.heard.some((message) => "tasks" in message && message.tasks.some((task) => task.taskId === taskId));
  }

  describe(): string {
    const states = this.executor.updates.map((update) => `${update.task_id.value}:${update.state}`);
    return `state ${this.executor.state}, updates ${states.join(" ")}\n${this.worker?.log() ?? ""}`;
  }
}

class Command implements fc.AsyncCommand<Model, World> {
  readonly #name: string;
  readonly #run: (model: Model, world: World) => unknown;
  readonly #pauseMs: number;

  constructor(name: string, pauseMs: number, run: (model: Model, world: World) => unknown) {
    this.#name = name;
    this.#pauseMs = pauseMs;
    this.#run = run;
  }

  check(): boolean {
    return true;
  }

  async run(model: Model, world: World): Promise<void> {
    await this.#run(model, world);
    // Some commands come upon each other, some find the world at rest.
    if (this.#pauseMs > 0) await sleep(this.#pauseMs);
  }

  toString(): string {
    return `${this.#name}+${this.#pauseMs}ms`;
  }
}

function pick(model: Model, index: number): string | undefined {
  return model.tasks[index % Math.max(1, model.tasks.length)];
}

const pause = fc.constantFrom(0, 0, 0, 3, 15, 60);
const index = fc.nat(5);

const command = (name: string, run: (model: Model, world: World) => unknown): fc.Arbitrary<Command> =>
  pause.map((ms) => new Command(name, ms, run));

const commands = [
  command("launch", (model, { executor }) => {
    const taskId = `t${model.tasks.length}`;
    model.tasks.push(taskId);
    executor.launch({ task_id: { value: taskId }, max_completion_time: { nanoseconds: 9223372036854775807n } });
  }),
  command("launchGroup", (model, { executor }) => {
    const ids = [`t${model.tasks.length}`, `t${model.tasks.length + 1}`];
    model.tasks.push(...ids);
    executor.launchGroup(ids.map((value) => ({ task_id: { value } })));
  }),
  fc.tuple(pause, index, fc.constantFrom(undefined, 0, 5000)).map(
    ([ms, at, gracePeriodMs]) =>
      new Command(`kill#${at}`, ms, (model, { executor }) => {
        const taskId = pick(model, at);
        if (taskId === undefined) return;
        model.killed.add(taskId);
        executor.kill(taskId, gracePeriodMs === undefined ? {} : { gracePeriodMs });
      }),
  ),
  fc.tuple(pause, index, fc.constantFrom("TASK_FINISHED", "TASK_FAILED")).map(
    ([ms, at, state]) =>
      new Command(`exit#${at}`, ms, (model, { stage }) => {
        const taskId = pick(model, at);
        if (taskId !== undefined) stage.supervisor.end(taskId, state);
      }),
  ),
  fc
    .tuple(pause, fc.boolean())
    .map(([ms, on]) => new Command(on ? "hold" : "release", ms, (_model, { stage }) => stage.agent.faults.holdAcknowledgements(on))),
  fc
    .tuple(pause, fc.constantFrom<StreamEnd>("clean", "eof", "reset"))
    .map(([ms, how]) => new Command(`drop ${how}`, ms, (_model, { stage }) => stage.agent.faults.dropStream(how))),
  fc
    .tuple(pause, fc.constantFrom(503, 404, 500), fc.constantFrom("UPDATE" as const, "SUBSCRIBE" as const))
    .map(
      ([ms, status, type]) => new Command(`${status} ${type}`, ms, (_model, { stage }) => stage.agent.faults.rejectNext(status, "", type)),
    ),
  command("not subscribed", (_model, { stage }) => stage.agent.faults.rejectNext(403, "Executor is not subscribed", "UPDATE")),
  command("half a record", (_model, { stage }) => stage.agent.faults.sendHalfRecord()),
  command("restart agent", (_model, world) => {
    world.restarted = (world.restarted ?? Promise.resolve()).then(() => world.stage.agent.faults.restart());
  }),
  command("supervisor dies", async (_model, world) => {
    if (!world.supervisorUp) return;
    world.supervisorUp = false;
    await world.stage.supervisor.stop();
  }),
  command("supervisor comes", async (_model, world) => {
    if (world.supervisorUp) return;
    world.supervisorUp = true;
    await world.stage.supervisor.listen();
  }),
];

function checkTask(world: World, { killed }: Model, taskId: string): void {
  const states = world.statesOf(taskId);
  const context = `${taskId}: ${states.join(" ")}; ${world.describe()}`;
  if (states[0] === "TASK_DROPPED" || (states[0] === "TASK_KILLED" && !world.wasHeld(taskId))) {
    // The agent's own word on a task that never reached the worker.
    assert.equal(states.length, 1, context);
    assert.equal(world.wasHeld(taskId), false, `dropped although the worker had it: ${context}`);
    return;
  }
  const end = states.at(-1) ?? "none";
  if (states.length === 1 && end === "TASK_KILLED") return assert.ok(killed.has(taskId), context);
  assert.deepEqual(states.slice(0, -1), ["TASK_STARTING", "TASK_RUNNING"], context);
  assert.ok(["TASK_FINISHED", "TASK_FAILED"].includes(end) || (end === "TASK_KILLED" && killed.has(taskId)), context);
}

/** Sequences mostly wait: this many run beside each other. */
const LANES = 8;

/** One failure is enough: the other lanes end. */
let failed = false;

const property = fc.asyncProperty(fc.commands(commands, { maxCommands: 30, size: "max" }), async (sequence) => {
  if (failed) return;
  await using stage = await WorkerStage.start({ reregistrationTimeoutMs: 2000, reapDelayMs: 0 });
  const world = new World(stage);
  const model: Model = { tasks: [], killed: new Set() };
  await fc.asyncModelRun(() => ({ model, real: world }), sequence);

  const code = await world.settle(model);

  assert.equal(code, 0, world.describe());
  for (const taskId of [...model.tasks, ANCHOR]) checkTask(world, model, taskId);
});

test(`${runs} random sequences lose, repeat and reorder nothing`, { timeout: 60_000 + runs * 10_000 }, async () => {
  const first = Number(process.env.BERTH_MODEL_SEED ?? Math.floor(Math.random() * 2 ** 31));
  const lanes = Math.min(LANES, runs);
  const numRuns = Math.ceil(runs / lanes);
  const assertLane = async (lane: number): Promise<void> => {
    try {
      await fc.assert(property, { numRuns, seed: first + lane, endOnFailure: true });
    } catch (error) {
      failed = true;
      throw error;
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, lane) => assertLane(lane)));
});
