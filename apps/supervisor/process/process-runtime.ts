import { TaskFailure } from "@berth/mesos";
import type { TaskInfo } from "@berth/mesos/task-info";
import type { Child, ChildExit, TaskRecord, WorkerMessage } from "@berth/protocol";
import type { Observed, TaskIdentity } from "@berth/runtime";
import type { OutputPiece, WorkerPort } from "../task/ports.ts";
import type { PlannedTask, TaskRuntime } from "../task/runtime.ts";
import { findTaskProcesses, killTaskProcesses, type Wanted } from "./marked-processes.ts";
import { type ProcessPlan, planProcess, type WorkerPlace } from "./process-plan.ts";
import type { TaskMark } from "./task-mark.ts";
import { lookUpUser, userOf } from "./users.ts";

export interface ProcessRuntimeParts {
  identity: TaskIdentity;
  record: TaskRecord;
  worker: WorkerPort;
  place: WorkerPlace;
  gracePeriodMs: number;
  /** Processes that SIGTERM spares, by name; SIGKILL spares none. */
  sparedFromSigterm: readonly string[];
  /** Where the child's output goes: `forward` also to the supervisor, for the log relay. */
  output: () => "inherit" | "forward";
  /** Called when the worker told news, after they are taken in. */
  onNews: () => void;
  onOutput: (piece: OutputPiece) => void;
  /** Called with how much of each stream the worker has had, when it tells. */
  onWritten: (written: { stdout: number; stderr: number }) => void;
}

/**
 * The `process` runtime of one task. The worker is the parent of the process: it spawns, signals the whole tree and reaps.
 * What is known of the process comes from the worker's words only, so it survives the supervisor with the worker.
 */
export class ProcessRuntime implements TaskRuntime {
  readonly kind = "process";
  readonly noun = "process";
  readonly name: string;
  readonly #parts: ProcessRuntimeParts;
  #plan: ProcessPlan | undefined;
  #added: Record<string, string> = {};
  #environment: Readonly<Record<string, string>> | undefined;
  #child: Child | undefined;
  #exit: ChildExit | undefined;
  #startedAt: number | undefined;
  #spawnAnswer: ((failure: string | undefined) => void) | undefined;

  constructor(parts: ProcessRuntimeParts) {
    this.#parts = parts;
    this.name = `process of ${parts.identity.taskId}`;
    this.workerTold(parts.record);
  }

  /** What a hello says of the child. */
  workerTold(record: TaskRecord): void {
    this.#child = record.child ?? this.#child;
    this.#exit = record.exit ?? this.#exit;
    this.#startedAt ??= this.#child === undefined ? undefined : record.launchedAt;
    if (this.#child !== undefined || this.#exit !== undefined) this.#spawnAnswer?.(undefined);
    if (record.output !== undefined) this.#parts.onWritten(record.output);
  }

  hear(message: Extract<WorkerMessage, { type: "spawned" | "spawnFailed" | "exited" | "output" }>): void {
    switch (message.type) {
      case "spawned":
        this.#child = message.child;
        this.#startedAt = Date.now();
        this.#spawnAnswer?.(undefined);
        break;
      case "spawnFailed":
        this.#spawnAnswer?.(message.error);
        return;
      case "exited":
        this.#exit = message.exit;
        break;
      case "output":
        this.#hearOutput(message);
        return;
    }
    this.#parts.onNews();
  }

  #hearOutput({ stream, data, offset }: Extract<WorkerMessage, { type: "output" }>): void {
    this.#parts.onOutput({ stream, bytes: Buffer.from(data, "base64"), ...(offset === undefined ? {} : { offset }) });
  }

  plan(task: TaskInfo): PlannedTask {
    const { identity, place, gracePeriodMs } = this.#parts;
    const plan = planProcess(task, identity, place);
    this.#plan = plan;
    return { environment: { ...plan.environment }, origins: plan.origins, gracePeriodMs, warnings: [] };
  }

  addEnvironment(variables: Readonly<Record<string, string>>): void {
    Object.assign(this.#added, variables);
  }

  async pull(): Promise<void> {}

  async create(environment: Readonly<Record<string, string>>): Promise<void> {
    this.#environment = { ...environment, ...this.#added };
  }

  async start(signal: AbortSignal): Promise<void> {
    const plan = this.#plan;
    if (plan === undefined || this.#environment === undefined) {
      throw new TaskFailure(
        "the supervisor was restarted before the process was started, and its environment is gone; launch the task again",
      );
    }
    const wanted = plan.user === undefined ? undefined : await lookUpUser(plan.user);
    // The agent starts the worker as the framework's user where it may: then there is nothing to change, and nobody with the right to.
    const user = wanted !== undefined && wanted.uid !== 0 && wanted.uid === userOf(this.#parts.place.process) ? undefined : wanted;
    const failure = await new Promise<string | undefined>((resolve, reject) => {
      this.#spawnAnswer = resolve;
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      this.#parts.worker.send({
        type: "spawn",
        taskId: this.#parts.identity.taskId,
        argv: plan.argv,
        environment: { ...this.#environment },
        directory: this.#parts.place.sandbox,
        output: this.#parts.output(),
        ...(user === undefined ? {} : { user }),
        ...(plan.rlimits.length === 0 ? {} : { rlimits: plan.rlimits }),
      });
    });
    this.#spawnAnswer = undefined;
    this.#environment = {};
    if (failure !== undefined) throw new TaskFailure(`the process could not be started: ${failure}`);
  }

  async inspect(): Promise<Observed> {
    if (this.#parts.worker.presence === "dead") await this.#inspectWithoutWorker();
    if (this.#exit !== undefined) {
      const { exitCode, signal, at, oomKilled } = this.#exit;
      const exit = { exitCode: exitCode ?? 128 + (signal ?? 0), oomKilled: oomKilled === true, finishedAt: at };
      return { state: "exited", id: String(this.#child?.pid ?? 0), exit: { ...exit, startedAt: this.#startedAt ?? at } };
    }
    if (this.#child !== undefined) {
      return {
        state: "running",
        id: String(this.#child.pid),
        pid: this.#child.pid,
        startedAt: this.#startedAt ?? Date.now(),
        addresses: [],
      };
    }
    return this.#environment === undefined ? { state: "absent" } : { state: "created", id: "" };
  }

  async signal(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const { identity, worker, sparedFromSigterm } = this.#parts;
    if (worker.presence === "dead") {
      // The kernel has killed the root with its worker; what is left in the background has nobody to be graceful to.
      await killTaskProcesses(this.#left());
      return;
    }
    const except = signal === "SIGTERM" && sparedFromSigterm.length > 0 ? { except: [...sparedFromSigterm] } : {};
    worker.send({ type: "signal", taskId: identity.taskId, signal: signal === "SIGTERM" ? 15 : 9, ...except });
  }

  async remove(): Promise<void> {
    if (this.#parts.worker.presence === "dead") await killTaskProcesses(this.#left());
  }

  async #inspectWithoutWorker(): Promise<void> {
    if (this.#exit === undefined && (await findTaskProcesses(this.#left())).length === 0) this.#exit = { signal: 9, at: Date.now() };
  }

  /** What a dead worker left of this task. */
  #left(): Wanted {
    return { mark: (mark) => this.#isOurs(mark), ...(this.#child === undefined ? {} : { root: this.#child }) };
  }

  #isOurs(mark: TaskMark): boolean {
    const { frameworkId, executorId, containerId, taskId } = this.#parts.identity;
    return mark.taskId === taskId && mark.containerId === containerId && mark.executorId === executorId && mark.frameworkId === frameworkId;
  }

  title(): string {
    return `berth-worker ${this.#parts.identity.taskId}`;
  }
}
