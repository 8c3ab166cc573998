/**
 * The worker's model test with nothing scripted: random sequences of launches, kills, exits, held acknowledgements, broken streams,
 * agent restarts and `kill -9` of the supervisor, with the real worker, the real supervisor and a real dockerd.
 * BERTH_MODEL_DOCKER_RUNS: how many sequences (default 2). The many are in apps/worker/tests/model.test.ts.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LocalAgent, type LocalExecutor } from "@berth/mesos/local-agent";
import { BUSYBOX_IMAGE, type Dockerd, sharedDockerd, tempDir, waitFor } from "@berth/test-harness";
import fc from "fast-check";
import { SupervisorStage } from "./supervisor-stage.ts";
import { WORKER } from "./task-stage.ts";

const runs = Number(process.env.BERTH_MODEL_DOCKER_RUNS ?? 2);
const ORDER = ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING"];
const TERMINAL = ["TASK_FINISHED", "TASK_FAILED", "TASK_KILLED"];
/** Keeps the worker from leaving before the last step. */
const ANCHOR = "anchor";

let docker: Dockerd;
let stage: SupervisorStage;

before(async () => {
  docker = await sharedDockerd();
  stage = new SupervisorStage(await tempDir("m"), { DOCKER_HOST: docker.host });
  await stage.startSupervisor();
});

after(async () => {
  await stage?.[Symbol.asyncDispose]();
  await docker?.stop();
});

interface World {
  agent: LocalAgent;
  executor: LocalExecutor;
  tasks: string[];
  killed: Set<string>;
  restarted: Promise<void>;
}

type Step = (world: World) => unknown;

/** Ends by itself with 3 when the test makes a file in its sandbox, as a command task or in a container; 0 after a SIGTERM. */
function launch(world: World, inContainer: boolean, taskId = `t${world.tasks.length}`): void {
  world.tasks.push(taskId);
  const { sandbox } = world.executor;
  const script = `trap 'exit 0' TERM; while [ ! -e '${sandbox}/end-${taskId}' ]; do sleep 0.1; done; exit 3`;
  const volumes = [{ mode: "RO", host_path: sandbox, container_path: sandbox }];
  const container = { type: "DOCKER", docker: { image: BUSYBOX_IMAGE, network: "HOST" }, volumes };
  world.executor.launch({ task_id: { value: taskId }, command: { value: script }, ...(inContainer ? { container } : {}) });
}

function end(world: World, taskId: string | undefined): void {
  if (taskId !== undefined) writeFileSync(`${world.executor.sandbox}/end-${taskId}`, "");
}

function kill(world: World, taskId: string | undefined): void {
  if (taskId === undefined) return;
  world.killed.add(taskId);
  world.executor.kill(taskId, { gracePeriodMs: 2000 });
}

const at = (world: World, index: number): string | undefined => world.tasks.filter((taskId) => taskId !== ANCHOR)[index];

const step: fc.Arbitrary<[string, Step]> = fc.oneof(
  fc
    .boolean()
    .map((inContainer): [string, Step] => [`launch ${inContainer ? "container" : "command"}`, (world) => launch(world, inContainer)]),
  fc.nat(3).map((index): [string, Step] => [`kill ${index}`, (world) => kill(world, at(world, index))]),
  fc.nat(3).map((index): [string, Step] => [`end ${index}`, (world) => end(world, at(world, index))]),
  fc.boolean().map((on): [string, Step] => [`hold ${on}`, ({ agent }) => agent.faults.holdAcknowledgements(on)]),
  fc
    .constantFrom("clean", "eof", "reset" as const)
    .map((how): [string, Step] => [how, ({ agent }) => agent.faults.dropStream(how as "clean")]),
  fc.constant<[string, Step]>([
    "restart agent",
    (world) => {
      world.restarted = world.restarted.then(() => world.agent.faults.restart());
    },
  ]),
  fc.constant<[string, Step]>([
    "kill -9 supervisor",
    async () => {
      await stage.supervisor.kill();
      await stage.startSupervisor();
    },
  ]),
);

test(`${runs} random sequences with a real supervisor and dockerd lose, repeat and reorder nothing`, {
  timeout: 60_000 + runs * 120_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(step, fc.constantFrom(0, 50, 400)), { minLength: 8, maxLength: 14 }), async (steps) => {
      await using agent = await LocalAgent.start({ workDirectory: `${stage.folder.path}/agent`, checkpoint: true });
      const executor = agent.startExecutor({
        executorId: "x",
        command: `exec ${WORKER}`,
        environment: { PATH: process.env.PATH ?? "", BERTH_SOCKET: stage.socket },
      });
      const world: World = { agent, executor, tasks: [], killed: new Set(), restarted: Promise.resolve() };
      launch(world, false, ANCHOR);

      for (const [[, act], pauseMs] of steps) {
        await act(world);
        await sleep(pauseMs);
      }
      await world.restarted;
      agent.faults.holdAcknowledgements(false);
      for (const taskId of world.tasks) end(world, taskId);
      const ended = await waitFor(() => executor.ended, { deadline: 60_000, what: describe(world, steps) });

      assert.deepEqual(ended, { code: 0, signal: null }, describe(world, steps));
      for (const taskId of world.tasks) checkTask(world, taskId, describe(world, steps));
    }),
    { numRuns: runs, endOnFailure: true },
  );
});

function checkTask({ executor, killed }: World, taskId: string, context: string): void {
  const states = executor.updates.filter((update) => update.task_id.value === taskId).map((update) => update.state);
  // A LAUNCH into a broken stream never reached the worker; a KILL of a task that still waits is the agent's own to answer.
  if (states.length === 1 && (states[0] === "TASK_DROPPED" || states[0] === "TASK_KILLED")) return;
  const last = states.at(-1) ?? "none";
  assert.ok(TERMINAL.includes(last), `${taskId}: ${states.join(" ")}; ${context}`);
  const before = states.slice(0, -1);
  assert.deepEqual(
    before,
    ORDER.filter((state) => before.includes(state)),
    `${taskId}: ${states.join(" ")}; ${context}`,
  );
  assert.ok(last !== "TASK_KILLED" || killed.has(taskId), `${taskId}: nobody killed it; ${context}`);
  assert.notEqual(last, "TASK_FINISHED", `${taskId}: it never exits with 0 by itself; ${context}`);
}

function describe({ executor }: World, steps: ReadonlyArray<[[string, Step], number]>): string {
  const updates = executor.updates.map((update) => `${update.task_id.value}:${update.state}`).join(" ");
  return `steps ${steps.map(([[name], ms]) => `${name}+${ms}`).join(", ")}; updates ${updates}`;
}
