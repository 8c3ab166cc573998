import type { TaskFailure } from "@berth/mesos";
import type { TaskInfo } from "@berth/mesos/task-info";
import type { Hello, SupervisorMessage, TaskRecord, Wanted, WorkerMessage } from "@berth/protocol";
import { SandboxOutput } from "../logs/sandbox-output.ts";
import type { Outcome } from "../task/outcome.ts";
import type { TaskLog, WorkerPort } from "../task/ports.ts";
import type { WorkerPresence } from "../task/situation.ts";
import type { Task } from "../task/task.ts";
import { parseTaskInfos } from "./launch-records.ts";
import { lifeOf } from "./process-life.ts";

/** An open connection to a worker, past its hello. */
export interface WorkerConnection {
  send(message: SupervisorMessage): void;
  /** Bytes sent that the worker has not read yet. */
  readonly queuedBytes?: number;
  /** Ends the connection; a reason is logged, the worker sees an orderly end. */
  close(reason: string): void;
}

export interface ExecutorParts {
  hello: Hello;
  /** Makes the reconciler of one task, not yet running. */
  createTask: (executor: Executor, record: TaskRecord, task: TaskInfo | TaskFailure) => Task;
  /** How long a worker whose process cannot be checked may be away before it counts as dead, milliseconds. */
  adoptionWindowMs: number;
  /** Milliseconds that no setting of the host's clock moves: a window is not over because the clock was put forward. */
  monotonic: () => number;
  log: TaskLog;
  /** All tasks are finished, and the worker was told. */
  onFinished: () => void;
  /** A finished executor was given another task: its launch and our leave met on the way. */
  onRevived: () => void;
  /** Data from the scheduler, base64. */
  onSchedulerMessage: (data: string) => void;
}

/** How often the process of a worker that is away is looked at, milliseconds. */
const DEATH_CHECK_MS = 250;

/**
 * One Mesos executor on this host: its worker's connection and its tasks.
 *
 * INVARIANTS: at most one connection; a worker that is `dead` stays so; messages to a worker that is away are dropped, because
 * its next hello says what it has.
 */
export class Executor implements WorkerPort {
  readonly tasks = new Map<string, Task>();
  readonly sandboxOutput = new SandboxOutput(this);
  readonly #parts: ExecutorParts;
  #hello: Hello;
  #connection: WorkerConnection | undefined;
  #presence: WorkerPresence = "away";
  #deathCheck: NodeJS.Timeout | undefined;
  /** It was given tasks, or told to shut down: when none is left, it may go. */
  #served = false;
  #finished = false;

  constructor(parts: ExecutorParts) {
    this.#parts = parts;
    this.#hello = parts.hello;
  }

  get hello(): Hello {
    return this.#hello;
  }

  get presence(): WorkerPresence {
    return this.#presence;
  }

  /** Whether the process that said the last hello still runs. */
  life(): ReturnType<typeof lifeOf> {
    return lifeOf(this.#hello);
  }

  get tellsWritten(): boolean {
    return this.#hello.tellsWritten === true;
  }

  get queuedBytes(): number {
    return this.#connection?.queuedBytes ?? 0;
  }

  send(message: SupervisorMessage): void {
    this.#connection?.send(message);
  }

  /** The worker is here, for the first time or again. Tasks that it tells of and that are not known yet are adopted. */
  attach(connection: WorkerConnection, hello: Hello): void {
    this.#connection?.close("the worker connected again");
    this.sandboxOutput.left();
    clearInterval(this.#deathCheck);
    this.#hello = hello;
    this.#connection = connection;
    this.#presence = "connected";
    const known = hello.tasks.filter((record) => this.tasks.has(record.taskId));
    const unknown = hello.tasks.filter((record) => !this.tasks.has(record.taskId));
    for (const record of known) this.tasks.get(record.taskId)?.workerReturned(record);
    this.#take(unknown);
    this.#endIfIdle();
  }

  /** Tasks of a worker that is known to be dead: each is stopped and cleaned up without anybody to tell. */
  takeOver(records: readonly TaskRecord[]): void {
    this.#presence = "dead";
    this.#take(records);
    for (const record of records) this.tasks.get(record.taskId)?.workerLeft();
  }

  /** The connection ended. That is not a death: the worker's process is looked at. */
  detach(connection: WorkerConnection): void {
    if (connection !== this.#connection) return;
    this.#connection = undefined;
    this.sandboxOutput.left();
    if (this.#finished) return;
    this.#presence = "away";
    const since = this.#parts.monotonic();
    for (const task of this.tasks.values()) task.workerLeft();
    let warned = false;
    const check = (): void => {
      const life = this.life();
      const overdue = this.#parts.monotonic() - since > this.#parts.adoptionWindowMs;
      if (life === "gone" || (life === "unknown" && overdue))
        return this.#die(life === "gone" ? "its process is gone" : "it did not come back");
      if (life === "alive" && overdue && !warned) {
        warned = true;
        this.#parts.log.warn({ ...this.#fields(), pid: this.#hello.pid }, "a worker lives but does not connect; its tasks are left alone");
      }
    };
    this.#deathCheck = setInterval(check, DEATH_CHECK_MS);
    check();
  }

  receive(message: Exclude<WorkerMessage, Hello>): void {
    switch (message.type) {
      case "launch":
        return this.#take(message.tasks);
      case "shutdown":
        return this.#wantAll(message.wanted);
      case "message":
        return this.#parts.onSchedulerMessage(message.data);
      case "written":
        return this.sandboxOutput.written(message.sequence);
      case "kill":
        return this.#withTask(message.taskId, message.type, (task) => task.want(message.wanted));
      case "held":
        return this.#withTask(message.taskId, message.type, (task) => task.held(message.sequence));
      case "acknowledged":
        return this.#withTask(message.taskId, message.type, (task) => task.acknowledged(message.state));
      case "spawned":
      case "spawnFailed":
      case "exited":
      case "output":
        return this.#withTask(message.taskId, message.type, (task) => task.runtime.hear?.(message));
    }
  }

  /** A task of a group failed or was killed: the others of its group go with it, as Mesos's default executor has it. */
  taskConcluded(task: Task, outcome: Outcome): void {
    if (outcome.state === "TASK_FINISHED") return;
    for (const id of task.group ?? []) {
      if (id === task.identity.taskId) continue;
      this.tasks.get(id)?.stop("group", `task ${task.identity.taskId} of its group ended with ${outcome.state}`);
    }
  }

  taskFinished(task: Task): void {
    const { taskId } = task.identity;
    this.tasks.delete(taskId);
    if (this.tasks.size > 0) this.send({ type: "forget", taskId });
    this.#endIfIdle();
  }

  /** Stops the death watch; for the daemon's own end. */
  dispose(): void {
    clearInterval(this.#deathCheck);
  }

  #take(records: readonly TaskRecord[]): void {
    if (records.length > 0) this.#served = true;
    if (records.length > 0 && this.#finished) {
      this.#finished = false;
      this.#parts.onRevived();
    }
    const fresh = records.filter((record) => !this.tasks.has(record.taskId));
    const parsed = parseTaskInfos(fresh);
    const created = fresh.map((record) => this.#parts.createTask(this, record, parsed.get(record.taskId) as TaskInfo | TaskFailure));
    // All of a group are known before the first of them runs and may fail.
    for (const task of created) this.tasks.set(task.identity.taskId, task);
    for (const task of created) task.run();
    // Told again after a restart: the supervisor that concluded it may have died before it stopped the others.
    for (const task of created) if (task.outcome !== undefined) this.taskConcluded(task, task.outcome);
  }

  #wantAll(wanted: Wanted): void {
    this.#served = true;
    for (const task of this.tasks.values()) task.want(wanted);
    this.#endIfIdle();
  }

  #withTask(taskId: string, type: string, act: (task: Task) => void): void {
    const task = this.tasks.get(taskId);
    if (task === undefined)
      this.#parts.log.debug({ ...this.#fields(), taskId, type }, "a message concerns a task that is over or was never launched");
    else act(task);
  }

  #die(why: string): void {
    clearInterval(this.#deathCheck);
    this.#presence = "dead";
    this.#parts.log.warn(
      { ...this.#fields(), pid: this.#hello.pid, why, tasks: [...this.tasks.keys()] },
      "a worker died; its tasks are stopped",
    );
    for (const task of this.tasks.values()) task.workerLeft();
    this.#endIfIdle();
  }

  #endIfIdle(): void {
    if (this.tasks.size > 0 || this.#finished) return;
    // A worker that has not been given a task yet waits for one.
    if (this.#presence !== "dead" && !this.#served) return;
    this.#finished = true;
    this.send({ type: "exit", code: 0 });
    this.dispose();
    this.#parts.onFinished();
  }

  #fields(): object {
    return { frameworkId: this.#hello.frameworkId, executorId: this.#hello.executorId };
  }
}
