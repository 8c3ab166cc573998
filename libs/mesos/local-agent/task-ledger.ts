import { randomUUID } from "node:crypto";
import type { CallStatus } from "./call.ts";
import { isTerminalForAgent, type ObservedStatus } from "./observed.ts";

/** What the agent knows of one task of an executor. */
export interface LedgerTask {
  /** As the executor gets it: defaults filled in. */
  info: Record<string, unknown>;
  /** "QUEUED" until it was put on the stream, then TASK_STAGING until the first update. */
  state: string;
}

/** What the ledger adds to a status. */
export interface LedgerFacts {
  agentId: string;
  executorId: string;
  containerId: string;
  executorPid: () => number | undefined;
}

/**
 * The tasks of one executor and its status update manager. INVARIANTS: an uuid is forwarded once; nothing is forwarded after a
 * task's terminal state, nor for a task that the executor never got. Source: slave.cpp `statusUpdate`.
 */
export class TaskLedger {
  readonly tasks = new Map<string, LedgerTask>();
  /** True once the executor has sent a status for any task: it was really sent one. */
  heardFromExecutor = false;
  readonly #facts: LedgerFacts;
  readonly #forward: (status: ObservedStatus) => void;
  readonly #uuids = new Set<string>();

  constructor(facts: LedgerFacts, forward: (status: ObservedStatus) => void) {
    this.#facts = facts;
    this.#forward = forward;
  }

  /** Tasks that are not over. */
  live(): Array<[string, LedgerTask]> {
    return [...this.tasks].filter(([, task]) => !isTerminalForAgent(task.state));
  }

  /** Takes an executor's status. Returns whether it is acknowledged: dropped ones are too, only another agent's are not. */
  receive(status: CallStatus): boolean {
    if (status.agent_id !== undefined && status.agent_id.value !== this.#facts.agentId) return false;
    const task = this.tasks.get(status.task_id.value);
    if (this.#uuids.has(status.uuid)) return true;
    this.#uuids.add(status.uuid);
    if (task === undefined || isTerminalForAgent(task.state)) return true;
    this.heardFromExecutor = true;
    task.state = status.state;
    this.#forward(this.#fillIn(status));
    return true;
  }

  /** Reports a state that the agent itself decided. Ignored when the task is over already. */
  invent(taskId: string, state: string, reason: string, message: string): void {
    const task = this.tasks.get(taskId);
    if (task === undefined || isTerminalForAgent(task.state)) return;
    task.state = state;
    this.#forward({
      task_id: { value: taskId },
      state,
      message,
      source: "SOURCE_AGENT",
      reason,
      agent_id: { value: this.#facts.agentId },
      executor_id: { value: this.#facts.executorId },
      timestamp: Date.now() / 1000,
      uuid: Buffer.from(randomUUID().replaceAll("-", ""), "hex").toString("base64"),
    });
  }

  #fillIn(status: CallStatus): ObservedStatus {
    const given = (status.container_status ?? {}) as NonNullable<ObservedStatus["container_status"]>;
    const pid = this.#facts.executorPid();
    return {
      ...status,
      agent_id: { value: this.#facts.agentId },
      executor_id: { value: this.#facts.executorId },
      timestamp: typeof status.timestamp === "number" ? status.timestamp : Date.now() / 1000,
      container_status: {
        container_id: given.container_id ?? { value: this.#facts.containerId },
        network_infos: given.network_infos ?? [{ ip_addresses: [{ protocol: "IPv4", ip_address: "127.0.0.1" }] }],
        ...(pid === undefined ? {} : { executor_pid: pid }),
      },
    };
  }
}
