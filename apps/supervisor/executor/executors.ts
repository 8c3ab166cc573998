import type { TaskFailure } from "@berth/mesos";
import type { TaskInfo } from "@berth/mesos/task-info";
import { type Hello, PROTOCOL_VERSIONS, type TaskRecord } from "@berth/protocol";
import type { TaskIdentity } from "@berth/runtime";
import type { TaskLog } from "../task/ports.ts";
import type { Task } from "../task/task.ts";
import { Executor, type WorkerConnection } from "./executor.ts";

export interface ExecutorsParts {
  createTask: (executor: Executor, record: TaskRecord, task: TaskInfo | TaskFailure) => Task;
  onSchedulerMessage: (executor: Executor, data: string) => void;
  adoptionWindowMs: number;
  version: string;
  /** Milliseconds that no setting of the host's clock moves. */
  monotonic: () => number;
  log: TaskLog;
}

/** Said to a worker instead of `welcome`. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  /** Whether the worker should try again later. */
  readonly retry: boolean;

  constructor(reason: string, retry: boolean) {
    super(reason);
    this.retry = retry;
  }
}

/**
 * All executors of this host that have said hello, and who may speak for each.
 *
 * | same executor said hello before | then |
 * | --- | --- |
 * | no | taken |
 * | yes, by the same process | the new connection replaces the old |
 * | yes, by another process that is gone | taken, its tasks go on |
 * | yes, by another process that lives | refused for good: two workers must not speak for one task |
 * | yes, by another that cannot be checked | refused while that one is connected, else taken |
 */
export class Executors {
  readonly #parts: ExecutorsParts;
  readonly #executors = new Map<string, Executor>();

  constructor(parts: ExecutorsParts) {
    this.#parts = parts;
  }

  /** Every executor, in the order of their first hello. */
  all(): IterableIterator<Executor> {
    return this.#executors.values();
  }

  *tasks(): Generator<Task> {
    for (const executor of this.#executors.values()) yield* executor.tasks.values();
  }

  /** The task that these ids name, or undefined when no worker has told of it. */
  find(identity: TaskIdentity): Task | undefined {
    return this.#executors.get(keyOf(identity))?.tasks.get(identity.taskId);
  }

  executorOf(identity: TaskIdentity): Executor | undefined {
    return this.#executors.get(keyOf(identity));
  }

  /** The executor that a task with these ids belongs to, whether it knows the task or not. */
  holderOf(identity: TaskIdentity): Executor | undefined {
    return this.#executors.get(keyOf(identity));
  }

  /** Takes a worker's hello: answers `welcome` and attaches it, or throws a {@link Refusal}. */
  hello(connection: WorkerConnection, hello: Hello): Executor {
    const protocol = PROTOCOL_VERSIONS.find((version) => hello.protocol.includes(version));
    if (protocol === undefined) {
      const ours = PROTOCOL_VERSIONS.join(", ");
      throw new Refusal(`no common protocol version: the supervisor speaks ${ours}, the worker ${hello.protocol.join(", ")}`, true);
    }
    const key = keyOf(hello);
    const holder = this.#executors.get(key);
    if (holder !== undefined) this.#judge(holder, hello);
    const executor = holder ?? this.#add(key, hello);
    connection.send({ type: "welcome", protocol, version: this.#parts.version, takesOutput: true });
    executor.attach(connection, hello);
    return executor;
  }

  /** Takes over the tasks of a worker that will not come back, so that they are stopped and cleaned up. */
  adoptDead(hello: Hello): void {
    const key = keyOf(hello);
    (this.#executors.get(key) ?? this.#add(key, hello)).takeOver(hello.tasks);
  }

  dispose(): void {
    for (const executor of this.#executors.values()) executor.dispose();
  }

  #judge(holder: Executor, hello: Hello): void {
    const before = holder.hello;
    if (before.pid === hello.pid && before.startTime === hello.startTime) return;
    if (holder.presence === "dead") throw new Refusal("this executor's worker died and its tasks are being stopped", false);
    const life = holder.life();
    if (life === "alive" || (life === "unknown" && holder.presence === "connected")) {
      throw new Refusal(`another process (pid ${before.pid}) already is the worker of this executor`, false);
    }
  }

  #add(key: string, hello: Hello): Executor {
    const { createTask, onSchedulerMessage, adoptionWindowMs, monotonic, log } = this.#parts;
    const executor: Executor = new Executor({
      hello,
      createTask,
      adoptionWindowMs,
      monotonic,
      log,
      onFinished: () => {
        if (this.#executors.get(key) === executor) this.#executors.delete(key);
      },
      onRevived: () => this.#executors.set(key, executor),
      onSchedulerMessage: (data) => onSchedulerMessage(executor, data),
    });
    this.#executors.set(key, executor);
    return executor;
  }
}

function keyOf({ frameworkId, executorId, containerId }: Pick<Hello, "frameworkId" | "executorId" | "containerId">): string {
  return JSON.stringify([frameworkId, executorId, containerId]);
}
