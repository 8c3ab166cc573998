import { isTerminal, type StatusUpdate } from "@berth/mesos";
import type { CallConnection, CallResult } from "./call-connection.ts";
import type { Host } from "./host.ts";

export interface OutboxOptions {
  executorId: string;
  frameworkId: string;
  /** So many updates wait for their acknowledgement before repeated ones make room. */
  updateBufferSize: number;
}

export interface OutboxHandlers {
  /** Whether the agent takes calls of ours now. */
  mayCall(): boolean;
  /** The agent says that we are not subscribed: SUBSCRIBE again, the updates are in it. */
  resubscribe(why: string): void;
  /** The agent will never take an update of ours. */
  lost(why: string): void;
  /** An update that the agent refuses twice; nobody will ever acknowledge it. */
  undeliverable(status: StatusUpdate): void;
  log(line: string): void;
}

interface Entry {
  status: StatusUpdate;
  /** The agent has it: by a 202, or listed in a SUBSCRIBE. */
  delivered: boolean;
  reduced: boolean;
}

/** A call that is no update: sent in order with them, not repeated. */
type Extra = { type: "MESSAGE"; message: { data: string } } | { type: "HEARTBEAT" };

const MIN_RETRY_MS = 50;
const MAX_RETRY_MS = 500;
/** Scheduler messages that may wait; Mesos promises no delivery of them either. */
const MAX_EXTRAS = 100;

/**
 * The updates that the agent has not acknowledged, and their way to it.
 *
 * INVARIANTS: updates reach the agent in the order of `add`; an update is kept until its uuid is acknowledged, whatever the
 * agent answers meanwhile; one that is refused as malformed holds up no other. Only where more wait than the buffer holds, one gives
 * way to a newer one of the same task and state: every state that a task was in is told, its end above all.
 */
export class Outbox {
  readonly #host: Host;
  readonly #calls: CallConnection;
  readonly #options: OutboxOptions;
  readonly #handlers: OutboxHandlers;
  readonly #entries: Entry[] = [];
  readonly #extras: Extra[] = [];
  #retry: number | undefined;
  #failures = 0;
  #sending: Entry | undefined;
  #saidFull = false;

  constructor(host: Host, calls: CallConnection, options: OutboxOptions, handlers: OutboxHandlers) {
    this.#host = host;
    this.#calls = calls;
    this.#options = options;
    this.#handlers = handlers;
  }

  /** Nothing waits for an acknowledgement. */
  get empty(): boolean {
    return this.#entries.length === 0;
  }

  add(status: StatusUpdate): void {
    this.#entries.push({ status, delivered: false, reduced: false });
    if (this.#entries.length > this.#options.updateBufferSize) this.#makeRoom();
    this.#pump();
  }

  /** The oldest update that a newer one repeats, rather one that the agent does not have yet: what it has, it tells by itself. */
  #makeRoom(): void {
    const newest = new Map(this.#entries.map(({ status }, index) => [stateOf(status), index]));
    const repeated = this.#entries.filter(
      (entry, index) => entry !== this.#sending && !isTerminal(entry.status.state) && newest.get(stateOf(entry.status)) !== index,
    );
    const victim = repeated.find((entry) => !entry.delivered) ?? repeated[0];
    if (victim === undefined) return;
    this.#entries.splice(this.#entries.indexOf(victim), 1);
    if (!this.#saidFull)
      this.#handlers.log(`more than ${this.#options.updateBufferSize} updates wait for the agent: repeated states are told only once`);
    this.#saidFull = true;
  }

  addExtra(call: Extra): void {
    if (this.#extras.length < MAX_EXTRAS) this.#extras.push(call);
    this.#pump();
  }

  /**
   * For SUBSCRIBE: everything that is not acknowledged. Once the agent has answered, `subscribed` must be called. `reduced`: the
   * agent could not read them, so each is cut down to its required fields for good.
   */
  unacknowledged(reduced = false): StatusUpdate[] {
    if (reduced)
      for (const entry of this.#entries) if (!entry.reduced) Object.assign(entry, { status: requiredFields(entry.status), reduced });
    return this.#entries.map((entry) => entry.status);
  }

  /** The agent took a SUBSCRIBE that listed these updates. */
  subscribed(listed: readonly StatusUpdate[]): void {
    for (const entry of this.#entries) if (listed.includes(entry.status)) entry.delivered = true;
    this.#failures = 0;
    this.#pump();
  }

  /** Returns the acknowledged update, or undefined for a uuid that is none of ours (acknowledged twice). */
  acknowledged(uuid: string): StatusUpdate | undefined {
    const index = this.#entries.findIndex((entry) => entry.status.uuid === uuid);
    return index < 0 ? undefined : this.#entries.splice(index, 1)[0]?.status;
  }

  /** Nobody will acknowledge these: SUBSCRIBE does not list them any more. */
  forget(taskId: string): void {
    for (let at = this.#entries.length - 1; at >= 0; at--) {
      if (this.#entries[at]?.status.task_id.value === taskId) this.#entries.splice(at, 1);
    }
  }

  #pump(): void {
    if (this.#calls.busy || this.#retry !== undefined || !this.#handlers.mayCall()) return;
    const entry = this.#entries.find((each) => !each.delivered);
    if (entry !== undefined) {
      this.#sending = entry;
      this.#calls.send(this.#encode({ type: "UPDATE", update: { status: entry.status } }), (result) => {
        this.#sending = undefined;
        this.#answered(entry, result);
      });
      return;
    }
    const extra = this.#extras.shift();
    if (extra === undefined) return;
    this.#calls.send(this.#encode(extra), ({ status, text }) => {
      if (status !== 202) this.#handlers.log(`the agent did not take a ${extra.type}: ${status} ${text}`);
      this.#pump();
    });
  }

  #encode(call: object): string {
    const { executorId, frameworkId } = this.#options;
    return JSON.stringify({ executor_id: { value: executorId }, framework_id: { value: frameworkId }, ...call });
  }

  #answered(entry: Entry, { status, text }: CallResult): void {
    if (status === 202) {
      entry.delivered = true;
      this.#failures = 0;
      return this.#pump();
    }
    if (status === 401) return this.#handlers.lost(`the agent does not accept the executor's token: ${text}`);
    if (status === 400 && /(Framework|Executor) cannot be found/.test(text))
      return this.#handlers.lost(`the agent does not know this executor any more: ${text}`);
    if (status === 400) return this.#refused(entry, text);
    if (status === 403) this.#handlers.resubscribe(`the agent says: ${text}`);
    // A restarted agent answers 503 for two seconds after it has taken our SUBSCRIBE: the update is kept and tried again.
    this.#tryLater(`the agent did not take an update (${status === 0 ? text : `${status} ${text}`})`);
  }

  /** A malformed update is our own bug: the state itself still has to arrive, so it goes once more with the required fields only. */
  #refused(entry: Entry, text: string): void {
    this.#handlers.log(`BUG: the agent refuses an update of task ${entry.status.task_id.value}: ${text}`);
    const index = this.#entries.indexOf(entry);
    if (entry.reduced || index < 0) {
      if (index >= 0) this.#entries.splice(index, 1);
      this.#handlers.undeliverable(entry.status);
    } else {
      this.#entries[index] = { status: requiredFields(entry.status), delivered: false, reduced: true };
    }
    this.#pump();
  }

  #tryLater(why: string): void {
    this.#failures += 1;
    if (this.#failures === 1) this.#handlers.log(`${why}; it is kept and sent again`);
    const random = (this.#host.randomBytes(1)[0] as number) / 256;
    this.#retry = this.#host.setTimer(MIN_RETRY_MS + random * (MAX_RETRY_MS - MIN_RETRY_MS), () => {
      this.#retry = undefined;
      this.#pump();
    });
  }
}

function requiredFields({ task_id, state, source, uuid, executor_id, timestamp }: StatusUpdate): StatusUpdate {
  return { task_id, state, source, uuid, executor_id, timestamp };
}

function stateOf({ state, task_id }: StatusUpdate): string {
  return `${state} ${task_id.value}`;
}
