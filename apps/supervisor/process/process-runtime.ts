import { readFile } from "node:fs/promises";
import { TaskFailure } from "@berth/mesos";
import type { TaskInfo } from "@berth/mesos/task-info";
import type { Child, ChildExit, TaskRecord, WorkerMessage } from "@berth/protocol";
import type { Observed, TaskIdentity } from "@berth/runtime";
import type { OutputPiece, WorkerPort } from "../task/ports.ts";
import type { PlannedTask, TaskRuntime } from "../task/runtime.ts";
import { killTaskProcesses, type Wanted } from "./marked-processes.ts";
import { countsHere, type PidFinder } from "./pid-here.ts";
import { checkValues, type ProcessPlan, planProcess, type WorkerPlace } from "./process-plan.ts";
import { ownCgroups } from "./task-cgroups.ts";
import type { TaskMark } from "./task-mark.ts";
import { lookUpUser, userOf } from "./users.ts";

export interface ProcessRuntimeParts {
  identity: TaskIdentity;
  record: TaskRecord;
  worker: WorkerPort;
  place: WorkerPlace;
  pids: PidFinder;
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
  /** The child as the worker knows it. */
  #told: Child | undefined;
  /** Until its pid for this process is known, one without a start time: nothing is asked of it. */
  #child: Child | undefined;
  #pid: number | undefined;
  #exit: ChildExit | undefined;
  #startedAt: number | undefined;
  /** Settles the start under way: with the reason why it failed, or undefined. */
  #spawnAnswer: ((failure: string | undefined) => void) | undefined;
  #spawnAgain: (() => void) | undefined;

  constructor(parts: ProcessRuntimeParts) {
    this.#parts = parts;
    this.name = `process of ${parts.identity.taskId}`;
    this.workerTold(parts.record);
  }

  /** What a hello says of the child. */
  workerTold(record: TaskRecord): void {
    // The connection broke with the order still on its way: the worker starts nothing twice.
    if (record.child === undefined && record.exit === undefined) this.#spawnAgain?.();
    if (record.child !== undefined) this.#takeChild(record.child);
    this.#exit = record.exit ?? this.#exit;
    this.#startedAt ??= this.#child === undefined ? undefined : record.launchedAt;
    if (this.#child !== undefined || this.#exit !== undefined) this.#spawnAnswer?.(undefined);
    if (record.output !== undefined) this.#parts.onWritten(record.output);
  }

  hear(message: Extract<WorkerMessage, { type: "spawned" | "spawnFailed" | "exited" | "output" }>): void {
    switch (message.type) {
      case "spawned":
        this.#takeChild(message.child);
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
    return { environment: { ...plan.environment }, origins: plan.origins, gracePeriodMs, warnings: [...plan.warnings] };
  }

  addEnvironment(variables: Readonly<Record<string, string>>): void {
    Object.assign(this.#added, variables);
  }

  async pull(): Promise<void> {}

  async create(environment: Readonly<Record<string, string>>): Promise<void> {
    const whole = { ...environment, ...this.#added };
    checkValues(whole);
    this.#environment = whole;
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
      this.#spawnAgain = () =>
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
      this.#spawnAgain();
      // It may have died while its task's user was looked up: then nobody tells of its death once more.
      if (this.#parts.worker.presence === "dead") this.workerDied();
    });
    this.#spawnAnswer = undefined;
    this.#spawnAgain = undefined;
    this.#environment = {};
    if (failure !== undefined) throw new TaskFailure(`the process could not be started: ${explained(failure, plan.argv[0] ?? "")}`);
  }

  async inspect(): Promise<Observed> {
    if (this.#parts.worker.presence === "dead") await this.#endWithoutWorker();
    if (this.#exit !== undefined) {
      const { exitCode, signal, at, oomKilled } = this.#exit;
      const exit = { exitCode: exitCode ?? 128 + (signal ?? 0), oomKilled: oomKilled === true, finishedAt: at };
      return { state: "exited", id: String(this.#pid ?? 0), exit: { ...exit, startedAt: this.#startedAt ?? at } };
    }
    if (this.#child !== undefined) {
      // 0 where it cannot be seen from here: nothing is ever asked of somebody else's process.
      const pid = (await this.#findPid()) ?? 0;
      return {
        state: "running",
        id: String(pid),
        pid,
        startedAt: this.#startedAt ?? Date.now(),
        addresses: [],
      };
    }
    return this.#environment === undefined ? { state: "absent" } : { state: "created", id: "" };
  }

  #takeChild(child: Child): void {
    if (this.#told !== undefined) return;
    this.#told = child;
    this.#child = countsHere(this.#parts.place.process) ? child : { ...child, startTime: "" };
  }

  async #findPid(): Promise<number | undefined> {
    const told = this.#told;
    if (told === undefined || this.#pid !== undefined) return this.#pid;
    this.#pid = await this.#parts.pids.find(told, this.#parts.place.process);
    if (this.#pid !== undefined) this.#child = { ...told, pid: this.#pid };
    return this.#pid;
  }

  async signal(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const { identity, worker, sparedFromSigterm } = this.#parts;
    if (worker.presence === "dead") return this.#endWithoutWorker();
    const except = signal === "SIGTERM" && sparedFromSigterm.length > 0 ? { except: [...sparedFromSigterm] } : {};
    worker.send({ type: "signal", taskId: identity.taskId, signal: signal === "SIGTERM" ? 15 : 9, ...except });
  }

  workerDied(): void {
    // No answer to an order to start will come.
    this.#spawnAnswer?.("its executor died");
  }

  /** From the process itself; one that is over, or has cleared its environment, tells nothing. */
  async environmentOf(names: readonly string[]): Promise<Record<string, string>> {
    const pid = await this.#findPid();
    if (pid === undefined) return {};
    const environ = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
    const entries = environ.split("\0").map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)] as const);
    return Object.fromEntries(entries.filter(([name]) => names.includes(name)));
  }

  async remove(): Promise<void> {
    if (this.#parts.worker.presence === "dead") await killTaskProcesses(this.#left());
  }

  /**
   * The kernel has killed the root with its worker; what is left in the background has nobody to be graceful to, and waits for no
   * hook that a stop may have.
   */
  async #endWithoutWorker(): Promise<void> {
    await killTaskProcesses(this.#left());
    this.#exit ??= { signal: 9, at: Date.now() };
  }

  /** What a dead worker left of this task. */
  #left(): Wanted {
    const { identity, place } = this.#parts;
    const root = this.#child;
    const cgroups = ownCgroups(root?.cgroups ?? [], identity.taskId, place.process);
    return { mark: (mark) => this.#isOurs(mark), cgroups, ...(root === undefined ? {} : { root }) };
  }

  #isOurs(mark: TaskMark): boolean {
    const { frameworkId, executorId, containerId, taskId } = this.#parts.identity;
    return mark.taskId === taskId && mark.containerId === containerId && mark.executorId === executorId && mark.frameworkId === frameworkId;
  }

  title(): string {
    return `berth-worker ${this.#parts.identity.taskId}`;
  }
}

/** The worker's words, with what to do where they are the kernel's alone. */
function explained(failure: string, program: string): string {
  if (failure === "E2BIG") return `${failure}: its command line and environment are too long for the kernel; one variable may have 128 KiB`;
  if (failure === "EACCES") return `${failure}: ${program} is not executable for the task's user, or the sandbox is closed to it`;
  if (failure.startsWith("EPERM: the user")) return `${failure}; changing the user needs a worker that runs as root`;
  return failure;
}
