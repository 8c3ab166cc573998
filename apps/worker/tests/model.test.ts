/**
 * Random histories of one executor between a real worker, the local agent and a supervisor that comes and goes. Whatever
 * happens: no update is lost, none is reordered, each task has exactly one terminal state, and the worker exits.
 *
 * BERTH_MODEL_RUNS: how many histories (default 12). BERTH_MODEL_SEED repeats those of a failure.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { LocalExecutor, TaskInfoInput } from "@berth/mesos/local-agent";
import { waitFor } from "@berth/test-harness";
import fc from "fast-check";
import { logOf, newTask, statesOf, WorkerStage } from "./stage.ts";

const runs = Number(process.env.BERTH_MODEL_RUNS ?? 12);
const seed = process.env.BERTH_MODEL_SEED === undefined ? {} : { seed: Number(process.env.BERTH_MODEL_SEED) };

/** Short, so that a history with restarts is a matter of seconds; retries are at most a quarter of it apart. */
const REREGISTRATION_MS = 600;

interface Task {
  info: TaskInfoInput;
  /** What ended it first; undefined while it runs. */
  end?: "TASK_FINISHED" | "TASK_FAILED" | "TASK_KILLED";
  /** A KILL was sent for it: it may never have started. */
  killed: boolean;
}

/** What should be true. */
interface Model {
  tasks: number;
  running: number;
  supervisor: boolean;
}

interface Real {
  stage: WorkerStage;
  executor: LocalExecutor;
  tasks: Task[];
}

type Command = fc.AsyncCommand<Model, Real>;

const LAUNCH: Command = {
  check: (model) => model.tasks < 6,
  run: async (model, real) => {
    const task = { info: newTask(), killed: false };
    real.executor.launch(task.info);
    real.tasks.push(task);
    model.tasks += 1;
    model.running += 1;
  },
  toString: () => "launch",
};

const LAUNCH_GROUP: Command = {
  check: (model) => model.tasks < 5,
  run: async (model, real) => {
    const group = [newTask(), newTask()].map((info) => ({ info, killed: false }));
    real.executor.launchGroup(group.map(({ info }) => info));
    real.tasks.push(...group);
    model.tasks += 2;
    model.running += 2;
  },
  toString: () => "launch a group",
};

function end(state: "TASK_FINISHED" | "TASK_FAILED"): Command {
  return {
    check: (model) => model.running > 1,
    run: async (model, { stage, tasks }) => {
      const task = tasks.find((each) => each.end === undefined);
      if (task === undefined) return;
      task.end = state;
      stage.supervisor.end(task.info.task_id.value, state);
      model.running -= 1;
    },
    toString: () => state,
  };
}

const KILL: Command = {
  check: (model) => model.running > 1,
  run: async (model, { executor, tasks }) => {
    const task = tasks.findLast((each) => each.end === undefined);
    if (task === undefined) return;
    task.end = "TASK_KILLED";
    task.killed = true;
    executor.kill(task.info.task_id.value);
    model.running -= 1;
  },
  toString: () => "kill",
};

function act(name: string, run: (real: Real) => Promise<void> | void): Command {
  return { check: () => true, run: async (_, real) => run(real), toString: () => name };
}

const SUPERVISOR_DIES: Command = {
  check: (model) => model.supervisor,
  run: async (model, { stage }) => {
    model.supervisor = false;
    await stage.supervisor.stop();
  },
  toString: () => "kill -9 supervisor",
};

const SUPERVISOR_RETURNS: Command = {
  check: (model) => !model.supervisor,
  run: async (model, { stage }) => {
    model.supervisor = true;
    await stage.supervisor.listen();
  },
  toString: () => "supervisor again",
};

const COMMANDS: Array<fc.Arbitrary<Command>> = [
  fc.constant(LAUNCH),
  fc.constant(LAUNCH_GROUP),
  fc.constant(end("TASK_FINISHED")),
  fc.constant(end("TASK_FAILED")),
  fc.constant(KILL),
  fc.constant(SUPERVISOR_DIES),
  fc.constant(SUPERVISOR_RETURNS),
  fc
    .constantFrom("clean" as const, "eof" as const, "reset" as const)
    .map((how) => act(`drop stream (${how})`, ({ stage }) => stage.agent.faults.dropStream(how))),
  fc.constant(act("half a record", ({ stage }) => stage.agent.faults.sendHalfRecord())),
  fc.boolean().map((on) => act(`hold acknowledgements: ${on}`, ({ stage }) => stage.agent.faults.holdAcknowledgements(on))),
  fc.boolean().map((on) => act(`bytewise: ${on}`, ({ stage }) => stage.agent.faults.deliverBytewise(on))),
  fc.nat(150).map((time) => act(`503 for ${time} ms`, ({ stage }) => stage.agent.faults.answer503For(time))),
  fc.constant(act("one 404", ({ stage }) => stage.agent.faults.rejectNext(404, "", "UPDATE"))),
  fc.constant(act("not subscribed", ({ stage }) => stage.agent.faults.rejectNext(403, "Executor is not subscribed", "UPDATE"))),
  fc.nat(200).map((time) => act(`wait ${time} ms`, () => sleep(time))),
  fc.constant(act("restart agent", ({ stage }) => stage.agent.faults.restart({ downMs: 50 }))),
];

async function start(): Promise<Real> {
  const stage = await WorkerStage.start({ reregistrationTimeoutMs: REREGISTRATION_MS });
  const executor = stage.worker();
  const first = { info: newTask(), killed: false };
  executor.launch(first.info);
  // The first task runs to the end of the history, so that the worker has a reason to stay.
  await executor.waitForState(first.info.task_id.value, "TASK_RUNNING");
  return { stage, executor, tasks: [first] };
}

/** Everything is well again, every task ends: now the worker has to leave, and the books must be right. */
async function settle({ stage, executor, tasks }: Real, model: Model): Promise<void> {
  stage.agent.faults.holdAcknowledgements(false);
  stage.agent.faults.deliverBytewise(false);
  if (!model.supervisor) await stage.supervisor.listen();
  for (const task of tasks) {
    task.end ??= "TASK_FINISHED";
    stage.supervisor.end(task.info.task_id.value, task.end);
  }
  await waitFor(() => executor.ended, { deadline: 30_000, what: `the worker's end; its log:\n${logOf(executor)}` });
  const { code } = await executor.exited;

  assert.equal(code, 0, logOf(executor));
  for (const task of tasks) {
    const states = statesOf(executor, task.info);
    const whole = ["TASK_STARTING", "TASK_RUNNING", task.end as string];
    const received = stage.supervisor.heard.some(
      (message) => "tasks" in message && message.tasks.some(({ taskId }) => taskId === task.info.task_id.value),
    );
    const allowed = [whole];
    // Killed before a supervisor took it on, by the worker; or before the worker had it, by the agent.
    if (task.killed) allowed.push(["TASK_KILLED"]);
    // A LAUNCH into a stream that breaks is lost, and the agent says so. One that the worker had is never dropped.
    if (!received) allowed.push(["TASK_DROPPED"], ["TASK_LOST"]);
    assert.ok(
      allowed.some((each) => each.join() === states.join()),
      `task ${task.info.task_id.value} (${task.end}, ${received ? "received" : "not received"}): ${states.join(", ")}\n${logOf(executor)}`,
    );
  }
}

test(`${runs} random histories`, async () => {
  await fc.assert(
    fc.asyncProperty(fc.commands(COMMANDS, { maxCommands: 14, size: "max" }), async (commands) => {
      const real = await start();
      const model: Model = { tasks: 1, running: 1, supervisor: true };
      try {
        await fc.asyncModelRun(() => ({ model, real }), commands);
        await settle(real, model);
      } finally {
        await real.stage[Symbol.asyncDispose]();
      }
    }),
    { numRuns: runs, endOnFailure: true, ...seed },
  );
});
