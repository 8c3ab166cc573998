import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { afterEach, test } from "node:test";
import type { Hello, SupervisorMessage, TaskRecord } from "@berth/protocol";
import { waitFor } from "@berth/test-harness";
import type { Task } from "../task/task.ts";
import type { Executor, WorkerConnection } from "./executor.ts";
import { Executors, Refusal } from "./executors.ts";
import { parseTaskInfos } from "./launch-records.ts";
import { ownPidNamespace, readStat } from "./process-life.ts";

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

interface Line extends WorkerConnection {
  sent: SupervisorMessage[];
  closed: string | undefined;
}

function line(): Line {
  const sent: SupervisorMessage[] = [];
  return {
    sent,
    closed: undefined,
    send: (message) => void sent.push(message),
    close(reason) {
      this.closed = reason;
    },
  };
}

function worker(): { child: ChildProcess; identity: Pick<Hello, "pid" | "startTime" | "pidNamespace"> } {
  const child = spawn("sleep", ["60"], { stdio: "ignore" });
  children.push(child);
  const pid = child.pid as number;
  return { child, identity: { pid, startTime: readStat(pid)?.startTime ?? "", pidNamespace: ownPidNamespace() ?? "" } };
}

function hello(identity: Pick<Hello, "pid" | "startTime" | "pidNamespace">, tasks: TaskRecord[] = [], protocol = [1]): Hello {
  const unknown = { kind: "other", device: "", inode: "" } as const;
  return {
    ...{ type: "hello", protocol, version: "t", frameworkId: "f", executorId: "e", containerId: "c", ...identity },
    ...{ agentId: "a", agentHostname: "h", agentEndpoint: "", frameworkName: "n", frameworkCapabilities: [], sandbox: "/s" },
    ...{ stdout: unknown, stderr: unknown, environment: {}, args: [], shutdownGracePeriodMs: 5000, tasks },
  } as Hello;
}

/** What the executors ask of a task, noted. */
interface NotedTask {
  calls: string[];
  executor: Executor;
  task: Task;
}

function host(more: { monotonic?: () => number } = {}): { executors: Executors; tasks: Map<string, NotedTask> } {
  const tasks = new Map<string, NotedTask>();
  const executors = new Executors({
    createTask: (executor, record) => {
      const calls: string[] = [];
      const note =
        (name: string) =>
        (...args: unknown[]): void =>
          void calls.push([name, ...args.filter((each) => typeof each === "string")].join(" "));
      const task = {
        identity: { frameworkId: "f", executorId: "e", containerId: "c", taskId: record.taskId },
        group: record.group,
        outcome: record.lastStatus === undefined ? undefined : { state: record.lastStatus.state, message: "" },
        ...{ run: note("run"), want: note("want"), stop: note("stop"), workerLeft: note("left"), workerReturned: note("returned") },
      } as unknown as Task;
      tasks.set(record.taskId, { calls, executor, task });
      return task;
    },
    onSchedulerMessage: () => {},
    adoptionWindowMs: 1000,
    version: "1",
    monotonic: more.monotonic ?? (() => performance.now()),
    log: silent,
  });
  return { executors, tasks };
}

function record(taskId: string, more: Partial<TaskRecord> = {}): TaskRecord {
  return { taskId, taskInfo: { task_id: { value: taskId } }, launchedAt: 1, ...more };
}

test("executors: the same process replaces its own connection; another is refused for good while the first lives", () => {
  const { executors } = host();
  const { identity } = worker();
  const [first, second, third] = [line(), line(), line()];
  executors.hello(first, hello(identity, [record("t")]));
  executors.hello(second, hello(identity, [record("t")]));

  assert.equal(first.closed, "the worker connected again");
  assert.throws(
    () => executors.hello(third, hello(worker().identity)),
    (error) => error instanceof Refusal && !error.retry,
  );
  executors.dispose();
});

test("executors: another process takes over from one that is gone", async () => {
  const { executors, tasks } = host();
  const { child, identity } = worker();
  const first = line();
  executors.hello(first, hello(identity, [record("t")]));
  child.kill("SIGKILL");
  await once(child, "exit");

  executors.hello(line(), hello(worker().identity, [record("t")]));

  assert.deepEqual(tasks.get("t")?.calls, ["run", "returned"]);
  executors.dispose();
});

test("executors: no common protocol version is a refusal that may be tried again", () => {
  const { executors } = host();

  assert.throws(
    () => executors.hello(line(), hello(worker().identity, [], [99])),
    (error) => error instanceof Refusal && error.retry,
  );
});

test("executors: a worker whose process is gone is dead at once; one that lives is only away", async () => {
  const { executors, tasks } = host();
  const { child, identity } = worker();
  const connection = line();
  const executor = executors.hello(connection, hello(identity, [record("t")]));

  executor.detach(connection);
  assert.equal(executor.presence, "away");
  child.kill("SIGKILL");
  await waitFor(() => executor.presence === "dead");

  assert.deepEqual(tasks.get("t")?.calls, ["run", "left", "left"]);
  executors.dispose();
});

test("executors: a launch that meets our leave is served, and found", () => {
  const { executors, tasks } = host();
  const connection = line();
  const executor = executors.hello(connection, hello(worker().identity, [record("one")]));
  executor.taskFinished(tasks.get("one")?.task as Task);
  assert.equal(connection.sent.at(-1)?.type, "exit");
  assert.equal([...executors.all()].length, 0);

  executor.receive({ type: "launch", tasks: [record("two")] });

  assert.deepEqual(tasks.get("two")?.calls, ["run"]);
  assert.equal(executors.find({ frameworkId: "f", executorId: "e", containerId: "c", taskId: "two" }), tasks.get("two")?.task);
  executors.dispose();
});

test("executors: a group whose one had failed when the supervisor died is stopped by its successor", () => {
  const { executors, tasks } = host();
  const group = ["bad", "good"];

  executors.hello(
    line(),
    hello(worker().identity, [record("bad", { group, lastStatus: { state: "TASK_FAILED", at: 1 } }), record("good", { group })]),
  );

  assert.deepEqual(tasks.get("good")?.calls, ["run", "stop group task bad of its group ended with TASK_FAILED"]);
  executors.dispose();
});

test("launch records: a group is refused whole, also for one that neither runtime can run", () => {
  const group = ["a", "b"];
  const parsed = parseTaskInfos([
    record("a", { group }),
    record("b", { group, taskInfo: { task_id: { value: "b" }, command: { value: "true" } } as TaskRecord["taskInfo"] }),
  ]);

  assert.match(String(parsed.get("a")), /neither a Docker container/);
  assert.match(String(parsed.get("b")), /not launched, because task a of its group cannot be/);
});

test("launch records: a group is refused whole for a command that cannot be started; one that runs is never refused", () => {
  const group = ["a", "b"];
  const of = (taskId: string, command: object) => ({ taskInfo: { task_id: { value: taskId }, command } as TaskRecord["taskInfo"] });
  const parse = (more: Partial<TaskRecord>) =>
    parseTaskInfos([record("a", { group, ...of("a", { value: "" }), ...more }), record("b", { group, ...of("b", { value: "true" }) })]);

  const parsed = parse({});
  const adopted = parse({ child: { pid: 1, startTime: "1" } });

  assert.match(String(parsed.get("a")), /command\.value is missing/);
  assert.match(String(parsed.get("b")), /not launched, because task a of its group cannot be/);
  assert.deepEqual(
    [...adopted.values()].map((task) => task instanceof Error),
    [false, false],
  );
});
