import { isTerminal, type OpaqueTaskInfo, type StatusUpdate } from "@berth/mesos";
import type { RequestedUpdate, TaskRecord, Wanted } from "@berth/protocol";
import { uuidBytes } from "./bytes.ts";
import type { Host } from "./host.ts";

export interface TaskEntry {
  record: TaskRecord;
  /** A supervisor has taken it on; from then on the worker waits for supervisors without limit. */
  accepted: boolean;
  /** Any update of it was acknowledged: the agent knows that it runs. */
  known: boolean;
  /** Since when the terminal update waits for its acknowledgement, by the monotonic clock. */
  terminalSince?: number;
  /** The last requested update as text, to drop an equal one. */
  fingerprint?: string;
  /** What the task waits for a limited time for: its first supervisor, later the acknowledgement of its end. */
  timer?: number;
}

/** Where nothing else says how long a task has between SIGTERM and SIGKILL. */
const DEFAULT_GRACE_MS = 5000;

/** How long a task has to end, milliseconds: the wish's own grace period, else the TaskInfo's kill policy. */
export function graceOf(record: TaskRecord, wanted: Wanted | undefined): number {
  const policy = record.taskInfo.kill_policy as { grace_period?: { nanoseconds?: number | string } } | undefined;
  const nanoseconds = policy?.grace_period?.nanoseconds;
  return wanted?.gracePeriodMs ?? (nanoseconds === undefined ? DEFAULT_GRACE_MS : Number(nanoseconds) / 1e6);
}

/** A task's states only go forward; a supervisor that comes back may say an earlier one again. */
const FORWARD = ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING"];

function rankOf(state: string): number {
  const rank = FORWARD.indexOf(state);
  return rank < 0 ? FORWARD.length : rank;
}

/** The tasks of this executor and what was said of them: the truth that outlives the supervisor. */
export class Ledger {
  readonly entries = new Map<string, TaskEntry>();
  readonly #host: Host;
  readonly #ids: { executorId: string; agentId: () => string };

  constructor(host: Host, ids: { executorId: string; agentId: () => string }) {
    this.#host = host;
    this.#ids = ids;
  }

  /** Takes a launch. A task that is known already is left as it is. Returns the new records. */
  launch(tasks: readonly OpaqueTaskInfo[], group: readonly string[] | undefined): TaskRecord[] {
    const added: TaskRecord[] = [];
    for (const taskInfo of tasks) {
      const taskId = taskInfo.task_id.value;
      if (this.entries.has(taskId)) continue;
      const record: TaskRecord = { taskId, taskInfo, launchedAt: this.#host.wallClock() };
      if (group !== undefined) record.group = [...group];
      this.entries.set(taskId, { record, accepted: false, known: false });
      added.push(record);
    }
    return added;
  }

  records(): TaskRecord[] {
    return [...this.entries.values()].map((entry) => entry.record);
  }

  /** For SUBSCRIBE: a task is unacknowledged until one of its updates was acknowledged. */
  unacknowledgedTasks(): OpaqueTaskInfo[] {
    return [...this.entries.values()].filter((entry) => !entry.known).map((entry) => entry.record.taskInfo);
  }

  /** The first wish for a task's end stays; a later one that leaves less time replaces it, because a supervisor that comes back hears only one. */
  want(taskId: string, wanted: Wanted): void {
    const entry = this.entries.get(taskId);
    if (entry === undefined) return;
    const before = entry.record.wanted;
    if (before === undefined) entry.record.wanted = wanted;
    // The deadline is counted from the first wish, whatever comes later.
    else if (graceOf(entry.record, wanted) < graceOf(entry.record, before)) {
      entry.record.wanted = { ...wanted, receivedAt: before.receivedAt };
    }
  }

  /**
   * Makes the update that the agent gets; undefined for one that says nothing new, that goes back (STARTING after RUNNING), and
   * for any after a terminal one: the agent would acknowledge and drop it.
   */
  update(taskId: string, requested: RequestedUpdate): StatusUpdate | undefined {
    const entry = this.entries.get(taskId);
    const last = entry?.record.lastStatus;
    if (entry === undefined || (last !== undefined && isTerminal(last.state))) return undefined;
    if (last !== undefined && rankOf(requested.state) < rankOf(last.state)) return undefined;
    if (requested.state === "TASK_KILLING" && last?.state === "TASK_KILLING") return undefined;
    const fingerprint = JSON.stringify(requested);
    // Mesos wants every failed health check told, equal or not.
    const failedCheck = requested.healthy === false && requested.reason === "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED";
    if (entry.fingerprint === fingerprint && !failedCheck) return undefined;
    entry.fingerprint = fingerprint;
    const now = this.#host.wallClock();
    const { state, message, reason, healthy, data, labels, containerStatus, checkStatus } = requested;
    entry.record.lastStatus = {
      state,
      at: now,
      ...(message === undefined ? {} : { message }),
      ...(reason === undefined ? {} : { reason }),
      ...(healthy === undefined ? {} : { healthy }),
    };
    if (isTerminal(state)) entry.terminalSince = this.#host.monotonicClock();
    const agentId = this.#ids.agentId();
    return {
      task_id: { value: taskId },
      state,
      source: "SOURCE_EXECUTOR",
      uuid: this.#host.encodeBase64(uuidBytes((count) => this.#host.randomBytes(count))),
      executor_id: { value: this.#ids.executorId },
      timestamp: now / 1000,
      ...(agentId === "" ? {} : { agent_id: { value: agentId } }),
      ...(message === undefined ? {} : { message }),
      ...(reason === undefined ? {} : { reason }),
      ...(healthy === undefined ? {} : { healthy }),
      ...(data === undefined ? {} : { data }),
      ...(labels === undefined ? {} : { labels: { labels } }),
      ...(containerStatus === undefined ? {} : { container_status: containerStatus }),
      ...(checkStatus === undefined ? {} : { check_status: checkStatus }),
    };
  }

  /** The agent has taken an update for good. */
  acknowledged(status: StatusUpdate): void {
    const entry = this.entries.get(status.task_id.value);
    if (entry === undefined) return;
    entry.known = true;
    if (isTerminal(status.state)) entry.record.terminalAcknowledged = true;
  }

  /** The supervisor is finished with a task; one that the agent may still ask about is kept all the same. */
  forget(taskId: string): void {
    if (this.entries.get(taskId)?.record.terminalAcknowledged === true) this.entries.delete(taskId);
  }

  /** Every task is over as far as the agent is concerned. */
  get settled(): boolean {
    return [...this.entries.values()].every((entry) => entry.record.terminalAcknowledged === true);
  }
}
