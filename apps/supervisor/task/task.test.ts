/** The reconciler against a runtime and a worker whose every answer the test decides. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { type Hook, HookRunner } from "@berth/hooks";
import { TaskFailure } from "@berth/mesos";
import { parseTaskInfo } from "@berth/mesos/task-info";
import type { RequestedUpdate, SupervisorMessage, TaskRecord } from "@berth/protocol";
import type { Observed } from "@berth/runtime";
import { waitFor } from "@berth/test-harness";
import type { Verdicts, Watch, WorkerPort } from "./ports.ts";
import { ImageGone, type PlannedTask, type TaskRuntime } from "./runtime.ts";
import type { Checkpoint } from "./situation.ts";
import { Task } from "./task.ts";
import type { TaskParts } from "./task-parts.ts";

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** A containerizer of one container that exists in memory. */
class MemoryRuntime implements TaskRuntime {
  readonly kind = "docker";
  readonly noun = "container";
  readonly name = "c-1";
  state: Observed = { state: "absent" };
  readonly calls: string[] = [];
  readonly environments: Array<Record<string, string>> = [];
  /** Called before each call; may throw or wait. */
  before: (call: string) => unknown = () => {};

  plan(): PlannedTask {
    return { environment: { A: "vault://x" }, origins: {}, gracePeriodMs: 1000, warnings: [], image: "i" };
  }
  addEnvironment(): void {}
  async pull(): Promise<void> {
    await this.#call("pull");
  }
  async create(environment: Readonly<Record<string, string>>): Promise<void> {
    await this.#call("create");
    this.environments.push({ ...environment });
    this.state = { state: "created", id: "c1" };
  }
  async start(): Promise<void> {
    await this.#call("start");
    this.state = { state: "running", id: "c1", pid: 7, startedAt: Date.now(), addresses: [] };
  }
  async inspect(): Promise<Observed> {
    await this.#call("inspect");
    return this.state;
  }
  async signal(signal: string): Promise<void> {
    await this.#call(signal);
    this.exit(signal === "SIGKILL" ? 137 : 0);
  }
  async remove(): Promise<void> {
    await this.#call("remove");
    this.state = { state: "absent" };
  }
  title(): string {
    return "t";
  }
  exit(exitCode: number): void {
    this.state = { state: "exited", id: "c1", exit: { exitCode, oomKilled: false, startedAt: 1, finishedAt: Date.now() } };
  }
  async #call(name: string): Promise<void> {
    this.calls.push(name);
    await this.before(name);
  }
}

/** The worker's end: holds at once, acknowledges at once. */
class MemoryWorker implements WorkerPort {
  presence: WorkerPort["presence"] = "connected";
  readonly updates: RequestedUpdate[] = [];
  checkpoint: { sequence: number; data: unknown } | undefined;
  task: Task | undefined;

  send(message: SupervisorMessage): void {
    if (this.presence !== "connected") return;
    if (message.type === "checkpoint") {
      this.checkpoint = { sequence: message.sequence, data: structuredClone(message.data) };
      queueMicrotask(() => this.task?.held(message.sequence));
    }
    if (message.type !== "update") return;
    this.updates.push(message.update);
    queueMicrotask(() => this.task?.acknowledged(message.update.state));
  }
  get states(): string[] {
    return this.updates.map(({ state }) => state);
  }
}

interface Stage {
  task: Task;
  runtime: MemoryRuntime;
  worker: MemoryWorker;
  verdicts: Verdicts[];
  finished: () => boolean;
}

function stage(
  more: { record?: Partial<TaskRecord>; hooks?: Hook[]; parts?: Partial<TaskParts>; prepare?: (runtime: MemoryRuntime) => void } = {},
): Stage {
  const runtime = new MemoryRuntime();
  const worker = new MemoryWorker();
  const verdicts: Verdicts[] = [];
  const watch: Watch = {
    name: "test",
    decidesHealth: () => false,
    begin: (_, told) => {
      verdicts.push(told);
      return () => {};
    },
  };
  more.prepare?.(runtime);
  const info = { task_id: { value: "t" }, name: "t", container: { type: "DOCKER", docker: { image: "i" } } };
  let finished = false;
  const task = new Task({
    identity: { frameworkId: "f", executorId: "e", containerId: "c", taskId: "t" },
    record: { taskId: "t", taskInfo: info, launchedAt: Date.now(), ...more.record },
    task: parseTaskInfo(info),
    surroundings: { executorEnvironment: {}, agentHostname: "h", sandbox: "/s" },
    worker,
    runtime,
    hooks: new HookRunner(more.hooks ?? [], silent),
    secrets: {
      resolve: async (environment) => ({ environment: { ...environment, A: "resolved" }, leases: [] }),
      adopt: () => {},
      references: () => [],
      release: async () => {},
      hide: () => {},
      forget: () => {},
      mask: (text) => text,
    },
    logs: { follow: () => {}, read: async function* () {}, finish: async () => ["last words"] },
    watches: [watch],
    takesKilling: false,
    keepsContainer: () => false,
    warnings: [],
    exitStates: "berth",
    successState: "TASK_FINISHED",
    sidecarByExitCode: false,
    defaultGracePeriodMs: 1000,
    now: Date.now,
    monotonic: () => performance.now(),
    log: silent,
    onUpdate: () => {},
    onEvent: () => {},
    onConcluded: () => {},
    onFinished: () => {
      finished = true;
    },
    ...more.parts,
  });
  worker.task = task;
  task.run();
  return { task, runtime, worker, verdicts, finished: () => finished };
}

async function state({ worker }: Stage, wanted: string): Promise<RequestedUpdate> {
  return await waitFor(() => worker.updates.find((update) => update.state === wanted), { what: `${wanted} (${worker.states.join(", ")})` });
}

describe("a task", () => {
  test("that ends tells its end with its last words, and finishes", async () => {
    const s = stage();
    await state(s, "TASK_RUNNING");
    s.runtime.exit(3);
    s.task.observeAgain();

    assert.match((await state(s, "TASK_FAILED")).message ?? "", /exited with 3; last output:\nlast words/);
    await waitFor(s.finished);
    assert.deepEqual(s.worker.states, ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"]);
  });

  test("has the beginning of its output held before it is started, and handed back when it ended unseen", async () => {
    const beginning = { kind: "text", stdout: 7 };
    const finishedAt: unknown[] = [];
    const logs = {
      follow: () => {},
      read: async function* () {},
      beginning: () => beginning,
      finish: async (_: unknown, __: unknown, position: unknown) => {
        finishedAt.push(position);
        return [];
      },
    };
    let heldAtStart: unknown;
    const s = stage({
      parts: { logs },
      prepare: (runtime) => {
        runtime.before = (call) => {
          if (call === "start") heldAtStart = (s.worker.checkpoint?.data as { logs?: unknown } | undefined)?.logs;
        };
      },
    });
    await state(s, "TASK_RUNNING");
    assert.deepEqual(heldAtStart, beginning);

    // Another supervisor, to which the worker tells of the end.
    const checkpoint = s.worker.checkpoint as { sequence: number; data: unknown };
    const next = stage({
      record: { checkpoint, lastStatus: { state: "TASK_RUNNING", at: 1 } },
      parts: { logs: { ...logs, beginning: () => assert.fail("asked again") } },
      prepare: (runtime) => runtime.exit(0),
    });
    await state(next, "TASK_FINISHED");
    assert.deepEqual(finishedAt, [beginning]);
  });

  test("whose engine is to be asked again at its very end has its last output copied all the same", async () => {
    const again: Hook = {
      name: "again",
      priority: 1,
      timeoutMs: 5000,
      failsTask: true,
      describe: () => undefined,
      stages: {
        afterStop: async () => {
          s.task.observeAgain();
          return undefined;
        },
      },
    };
    const seen: unknown[] = [];
    const finish = async (observed: unknown): Promise<string[]> => {
      seen.push(observed);
      return [];
    };
    const s = stage({ hooks: [again], parts: { logs: { follow: () => {}, read: async function* () {}, finish } } });
    await state(s, "TASK_RUNNING");
    s.runtime.exit(3);
    s.task.observeAgain();
    await waitFor(s.finished);

    assert.deepEqual(
      seen.map((observed) => (observed as { state?: string } | undefined)?.state),
      ["exited"],
    );
  });

  test("whose last output cannot be had tells its end all the same", async () => {
    const s = stage({
      parts: { logs: { follow: () => {}, read: async function* () {}, finish: () => Promise.reject(new Error("no such container")) } },
    });
    await state(s, "TASK_RUNNING");
    s.runtime.exit(3);
    s.task.observeAgain();

    assert.equal((await state(s, "TASK_FAILED")).message, "container exited with 3");
    await waitFor(s.finished);
  });

  test("whose container is removed before its start gets its environment again", async () => {
    let removed = false;
    const slow: Hook = {
      name: "slow",
      priority: 1,
      timeoutMs: 5000,
      failsTask: true,
      describe: () => undefined,
      stages: {
        beforeStart: async () => {
          if (removed) return undefined;
          removed = true;
          s.runtime.state = { state: "absent" };
          s.task.observeAgain();
          await turn();
          return undefined;
        },
      },
    };
    const s: Stage = stage({ hooks: [slow] });
    await state(s, "TASK_RUNNING");

    assert.deepEqual(s.runtime.environments, [{ A: "resolved" }, { A: "resolved" }]);
  });

  test("whose image is gone at the create pulls it again", async () => {
    let gone = true;
    const s = stage({
      prepare: (runtime) => {
        runtime.before = (call) => {
          if (call !== "create" || !gone) return;
          gone = false;
          throw new ImageGone("gone");
        };
      },
    });
    await state(s, "TASK_RUNNING");

    assert.deepEqual(
      s.runtime.calls.filter((call) => call === "pull" || call === "create"),
      ["pull", "create", "pull", "create"],
    );
  });

  test("whose container cannot be removed is let go after a while", async () => {
    const time = hurriedTime();
    const s = stage({
      parts: time,
      prepare: (runtime) => {
        runtime.before = (call) => {
          if (call !== "remove") return;
          time.ahead += 20_000;
          throw new Error("device or resource busy");
        };
      },
    });
    await state(s, "TASK_RUNNING");
    s.runtime.exit(0);
    s.task.observeAgain();

    await waitFor(s.finished, { deadline: 20_000 });
    assert.equal(
      s.task.events.some(({ what }) => what === "left behind"),
      true,
    );
  });

  test("that was told over by its worker alone is not started", async () => {
    const s = stage({ record: { lastStatus: { state: "TASK_FAILED", at: Date.now() }, terminalAcknowledged: true } });

    await waitFor(s.finished);
    assert.equal(s.runtime.calls.includes("create"), false);
    assert.deepEqual(s.worker.states, []);
  });

  test("with a checkpoint that nobody can read is never started, and told to have vanished", async () => {
    const s = stage({
      record: { checkpoint: { sequence: 3, data: { version: 1, phase: "running" } }, lastStatus: { state: "TASK_RUNNING", at: 1 } },
    });

    assert.match((await state(s, "TASK_FAILED")).message ?? "", /vanished/);
    assert.equal(s.runtime.calls.includes("create"), false);
  });

  test("a health report that was on its way when the worker left is said again", async () => {
    const s = stage();
    await state(s, "TASK_RUNNING");
    const deliver = s.worker.send.bind(s.worker);
    s.worker.send = (message) => {
      if (message.type !== "update") deliver(message);
    };
    s.verdicts[0]?.health(false, { message: "unwell" });
    await turn();
    s.worker.send = deliver;

    s.task.workerReturned(recordOf(s, "TASK_RUNNING"));

    await waitFor(() => s.worker.updates.find(({ healthy }) => healthy === false));
  });

  test("a clock that is set back in the grace period does not make it longer", async () => {
    let shift = 0;
    const s = stage({
      parts: { now: () => Date.now() + shift },
      prepare: (runtime) => {
        runtime.signal = async (signal) => {
          runtime.calls.push(signal);
          if (signal === "SIGKILL") runtime.exit(137);
        };
      },
    });
    await state(s, "TASK_RUNNING");
    s.task.stop("operator", "stopped", 500);
    await waitFor(() => s.runtime.calls.includes("SIGTERM"));

    shift = -3_600_000;
    s.task.observeAgain();

    await state(s, "TASK_KILLED");
  });

  test("a clock that is set forward does not cut it short", async () => {
    let shift = 0;
    const s = stage({
      parts: { now: () => Date.now() + shift },
      prepare: (runtime) => (runtime.signal = async (signal) => void runtime.calls.push(signal)),
    });
    await state(s, "TASK_RUNNING");
    s.task.stop("operator", "stopped", 600_000);
    await waitFor(() => s.runtime.calls.includes("SIGTERM"));

    shift = 3_600_000;
    s.task.observeAgain();
    await waitFor(() => s.task.describe().step === "the grace period runs");
    for (let i = 0; i < 20; i++) await turn();

    assert.equal(s.runtime.calls.includes("SIGKILL"), false);
    s.runtime.exit(0);
    s.task.observeAgain();
    await state(s, "TASK_KILLED");
  });

  test("whose process ends during a drain ends then", async () => {
    let drains = 0;
    const drain: Hook = {
      name: "drain",
      priority: 1,
      timeoutMs: 600_000,
      failsTask: false,
      describe: () => undefined,
      stages: {
        beforeStop: async (task, { signal }) => {
          drains += 1;
          if (task.stop?.alreadyEnded === false) await new Promise((resolve) => signal.addEventListener("abort", resolve));
          return undefined;
        },
      },
    };
    const s: Stage = stage({ hooks: [drain] });
    await state(s, "TASK_RUNNING");
    s.task.stop("operator", "stopped", 500);
    await waitFor(() => drains === 1);

    s.runtime.exit(7);
    s.task.observeAgain();

    assert.match((await state(s, "TASK_KILLED")).message ?? "", /exited with 7/);
    assert.equal(s.runtime.calls.includes("SIGTERM"), false);
  });

  test("a fault in one step is no end: an inspection that fails is made again", async () => {
    let failures = 2;
    const s = stage({
      prepare: (runtime) => {
        runtime.before = (call) => {
          if (call === "inspect" && failures-- > 0) throw new Error("dockerd does not answer");
        };
      },
    });

    await state(s, "TASK_RUNNING");
  });

  test("a launch that fails after its kill was asked for is killed, not failed", async () => {
    const s = stage({
      prepare: (runtime) => {
        runtime.before = (call) => {
          if (call !== "start") return;
          s.task.stop("framework-kill", "killed", 0);
          throw new TaskFailure("the port is taken");
        };
      },
    });

    await state(s, "TASK_KILLED");
  });

  test("a stop ends although the engine has stopped answering: by the process itself", async () => {
    let alive = true;
    const time = hurriedTime();
    const s = stage({
      parts: time,
      prepare: (runtime) => {
        Object.assign(runtime, {
          pidOf: () => 7,
          glimpse: () => {
            time.ahead += 3000;
            return alive ? "running" : "gone";
          },
          signalDirectly: () => {
            const was = alive;
            alive = false;
            return was;
          },
        } satisfies Partial<TaskRuntime>);
      },
    });
    await state(s, "TASK_RUNNING");
    s.runtime.before = () => {
      throw new Error("docker kill timed out");
    };

    s.task.stop("framework-kill", "killed on request of the framework", 1000);

    assert.match((await state(s, "TASK_KILLED")).message ?? "", /its process is gone, but its exit status is unknown/);
    s.runtime.before = () => {};
    await waitFor(s.finished);
  });
});

/** Both clocks, which a test may put ahead together. */
function hurriedTime(): { ahead: number; now: () => number; monotonic: () => number } {
  const time = { ahead: 0, now: () => Date.now() + time.ahead, monotonic: () => performance.now() + time.ahead };
  return time;
}

function recordOf({ worker, task }: Stage, last: "TASK_RUNNING"): TaskRecord {
  return {
    taskId: task.identity.taskId,
    taskInfo: { task_id: { value: "t" } },
    launchedAt: task.launchedAt,
    lastStatus: { state: last, at: 1 },
    ...(worker.checkpoint === undefined ? {} : { checkpoint: worker.checkpoint as { sequence: number; data: Checkpoint } }),
  };
}
