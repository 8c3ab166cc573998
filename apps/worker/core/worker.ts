import { type Event, isTerminal, type SubscribedEvent } from "@berth/mesos";
import {
  type Hello,
  PROTOCOL_VERSIONS,
  type RequestedUpdate,
  type Spawn,
  type SupervisorMessage,
  type TaskRecord,
  type Wanted,
} from "@berth/protocol";
import { type AgentEndpoint, agentEndpoint } from "./agent-endpoint.ts";
import { AgentSession } from "./agent-session.ts";
import { CallConnection } from "./call-connection.ts";
import { Children } from "./children.ts";
import type { Host } from "./host.ts";
import { KeptOutput } from "./kept-output.ts";
import { graceOf, Ledger, type TaskEntry } from "./ledger.ts";
import { Outbox } from "./outbox.ts";
import { OwnOutput } from "./own-output.ts";
import { startTimeOf } from "./process-tree.ts";
import { type WorkerSettings, workerSettings } from "./settings.ts";
import { SupervisorLink } from "./supervisor-link.ts";
import { timeOfDay } from "./time-of-day.ts";

/** How the worker's process ends, as the agent sees it. */
export const EXIT = {
  /** Every task's terminal update is acknowledged. */
  done: 0,
  /** A terminal update was never acknowledged, or the agent is lost for good. */
  unacknowledged: 1,
  /** The environment or a setting is wrong. */
  badEnvironment: 2,
  /** The supervisor knows another worker for this executor. */
  refused: 3,
} as const;

const VERSION = "0.1.0";
const SIGTERM = 15;
const SIGKILL = 9;
/** A supervisor that restarts in the middle of a kill gets this long to go on with it before the worker does so itself. */
const SUPERVISOR_BACK_MS = 3000;
/** Messages of the scheduler that wait for a supervisor; Mesos itself promises no delivery. */
const MAX_WAITING_MESSAGES = 100;
/** What SHUTDOWN's grace period keeps back for the last updates, as Mesos's own executors do. */
const SHUTDOWN_RESERVE_MS = 2000;
/** An agent that restarted meanwhile may have forgotten the task and will never acknowledge: then the worker leaves all the same. */
const ACKNOWLEDGEMENT_FAIL_SAFE_MS = 60_000;
/** The same once the executor is shut down: a framework that is torn down acknowledges nothing. */
const SHUTDOWN_ACKNOWLEDGEMENT_MS = 5000;
/** How long a worker whose tasks are over waits for the supervisor's leave. */
const LEAVE_WITHOUT_SUPERVISOR_MS = 10_000;
/** What waits for a slow reader of our own stdout or stderr gets this long at the end. */
const LAST_OUTPUT_MS = 1000;
const HEARTBEAT_MS = 30 * 60_000;

/** The worker: one Mesos executor. It holds the session, the updates and the checkpoints; the supervisor does the work. */
export class Worker {
  readonly #host: Host;
  readonly #settings: WorkerSettings;
  readonly #session: AgentSession;
  readonly #outbox: Outbox;
  readonly #ledger: Ledger;
  readonly #link: SupervisorLink;
  readonly #children: Children;
  #subscribed: SubscribedEvent | undefined;
  #agentId: string;
  #listed: ReturnType<Outbox["unacknowledged"]> = [];
  #released = false;
  #shutdown = false;
  #agentLost = false;
  #leaving = false;
  #undeliverable = false;
  #served = false;
  /** Of the scheduler, base64, for a supervisor that is away. */
  #messages: string[] = [];
  readonly #output: KeptOutput;
  readonly #own: OwnOutput;
  /** Why the children's output is not read at the moment. */
  readonly #unread = { own: false, kept: false };
  #subscribedSince = 0;

  constructor(host: Host, settings: WorkerSettings, endpoint: AgentEndpoint) {
    this.#host = host;
    this.#settings = settings;
    this.#agentId = settings.agentId;
    const log = (line: string): void => this.#log(line);
    this.#own = new OwnOutput(host, {
      takes: (more) => this.#readChildren({ own: !more }),
      dropped: (fd, bytes) => log(`nobody read ${fd === 1 ? "stdout" : "stderr"} for a while: ${bytes} bytes were dropped`),
    });
    this.#output = new KeptOutput(host, (held) => this.#readChildren({ kept: held }));
    this.#ledger = new Ledger(host, { executorId: settings.executorId, agentId: () => this.#agentId });
    this.#session = new AgentSession(host, endpoint, settings, {
      unacknowledged: (reduced) => {
        this.#listed = this.#outbox.unacknowledged(reduced);
        return { tasks: this.#ledger.unacknowledgedTasks(), updates: this.#listed };
      },
      subscribed: (event) => this.#onSubscribed(event),
      event: (event) => this.#onEvent(event),
      disconnected: () => {},
      lost: (why) => this.#onAgentLost(why),
      log,
    });
    this.#outbox = new Outbox(host, new CallConnection(host, endpoint), settings, {
      // An agent that shuts us down takes updates, but no SUBSCRIBE any more.
      mayCall: () => this.#session.subscribed || (this.#shutdown && !this.#agentLost),
      resubscribe: (why) => this.#session.resubscribe(why),
      lost: (why) => this.#onAgentLost(why),
      undeliverable: (status) => {
        // A state on the way that is refused must not take the last one with it.
        if (isTerminal(status.state)) this.#settle(status.task_id.value, status.uuid);
        else this.#leaveIfDone();
      },
      log,
    });
    this.#link = new SupervisorLink(host, settings.supervisorSocket, {
      hello: () => this.#hello(),
      welcomed: (takesOutput) => this.#onWelcome(takesOutput),
      refusedForGood: (reason) => this.#leave(EXIT.refused, `the supervisor refuses this worker: ${reason}`),
      away: (served) => this.#onSupervisorAway(served),
      message: (message) => this.#onSupervisorMessage(message),
      log,
    });
    this.#children = new Children(host, {
      exited: (taskId, exit) => {
        const entry = this.#ledger.entries.get(taskId);
        if (entry !== undefined) entry.record.exit = exit;
        this.#output.flush();
        this.#link.send({ type: "exited", taskId, exit });
        if (entry !== undefined) this.#tellEndAlone(entry);
      },
      output: (taskId, stream, bytes) => {
        this.#own.write(stream === "stdout" ? 1 : 2, bytes);
        this.#output.add(taskId, stream, bytes);
      },
      log,
    });
  }

  start(): void {
    this.#host.onSignal((signal) => this.#onSignal(signal));
    this.#session.start();
    const beat = (): void => {
      if (this.#session.subscribed) this.#outbox.addExtra({ type: "HEARTBEAT" });
      this.#host.setTimer(HEARTBEAT_MS, beat);
    };
    this.#host.setTimer(HEARTBEAT_MS, beat);
  }

  #readChildren(unread: { own?: boolean; kept?: boolean }): void {
    Object.assign(this.#unread, unread);
    this.#host.readChildren(!this.#unread.own && !this.#unread.kept);
  }

  // The agent

  #onSubscribed(event: SubscribedEvent): void {
    const first = this.#subscribed === undefined;
    this.#subscribed = event;
    this.#subscribedSince = this.#host.monotonicClock();
    this.#agentId = event.agent_info?.id?.value ?? this.#agentId;
    this.#outbox.subscribed(this.#listed);
    // The hello needs the executor's ContainerID, which only SUBSCRIBED tells.
    if (first) this.#link.start();
  }

  #onEvent(event: Exclude<Event, { type: "SUBSCRIBED" }>): void {
    switch (event.type) {
      case "LAUNCH":
        return this.#launch([event.launch.task], undefined);
      case "LAUNCH_GROUP": {
        const { tasks } = event.launch_group.task_group;
        return this.#launch(
          tasks,
          tasks.map((task) => task.task_id.value),
        );
      }
      case "KILL":
        return this.#onKill(event.kill);
      case "ACKNOWLEDGED":
        return this.#onAcknowledged(event.acknowledged.uuid);
      case "SHUTDOWN":
        return this.#onShutdown();
      case "MESSAGE":
        if (this.#link.connected) this.#link.send({ type: "message", data: event.message.data ?? "" });
        else if (this.#messages.length < MAX_WAITING_MESSAGES) this.#messages.push(event.message.data ?? "");
        return;
      default:
        // HEARTBEAT needs no answer; newer agents may send events that this worker does not know.
        return;
    }
  }

  #launch(tasks: Parameters<Ledger["launch"]>[0], group: readonly string[] | undefined): void {
    const records = this.#ledger.launch(tasks, group);
    if (records.length === 0) return;
    this.#served = true;
    this.#released = false;
    for (const { taskId } of records) this.#arm(taskId, this.#settings.supervisorTimeoutMs, () => this.#giveUpIfUnaccepted(taskId));
    if (this.#link.send({ type: "launch", tasks: records }) && this.#link.connected) this.#accept(records);
  }

  #onKill(kill: Extract<Event, { type: "KILL" }>["kill"]): void {
    const taskId = kill.task_id.value;
    if (!this.#ledger.entries.has(taskId))
      return this.#log(`the agent asks to kill task ${taskId}, which was never launched here; ignored`);
    const nanoseconds = kill.kill_policy?.grace_period?.nanoseconds;
    this.#want(taskId, {
      kind: "kill",
      receivedAt: this.#host.wallClock(),
      cause: "framework",
      ...(nanoseconds === undefined ? {} : { gracePeriodMs: Number(nanoseconds) / 1e6 }),
    });
  }

  #onAcknowledged(uuid: string): void {
    const status = this.#outbox.acknowledged(uuid);
    if (status === undefined) return;
    this.#ledger.acknowledged(status);
    const entry = this.#ledger.entries.get(status.task_id.value);
    if (entry?.record.terminalAcknowledged === true) this.#disarm(entry);
    this.#link.send({ type: "acknowledged", taskId: status.task_id.value, uuid, state: status.state });
    this.#leaveIfDone();
  }

  #onShutdown(): void {
    if (this.#shutdown) return;
    this.#shutdown = true;
    const wanted: Wanted = {
      kind: "shutdown",
      gracePeriodMs: this.#settings.shutdownGraceMs,
      receivedAt: this.#host.wallClock(),
      cause: "agent",
    };
    this.#wantAll(wanted);
    this.#link.send({ type: "shutdown", wanted });
    // Whatever is not done by then, the agent ends by SIGKILL a moment later; a framework that is gone acknowledges nothing.
    const grace = this.#settings.shutdownGraceMs;
    this.#host.setTimer(Math.max(grace / 2, grace - SHUTDOWN_RESERVE_MS / 2), () =>
      this.#leave(EXIT.done, "the shutdown grace period is over"),
    );
    if (this.#ledger.entries.size === 0) this.#leave(EXIT.done, "shut down without a task");
    else this.#leaveIfDone();
  }

  /** The agent will not have us back: tasks are stopped as gracefully as they can be, and nobody hears of it. */
  #onAgentLost(why: string): void {
    if (this.#agentLost) return;
    this.#agentLost = true;
    this.#session.end();
    this.#log(`${why}; stopping every task`);
    const grace = this.#settings.shutdownGraceMs;
    for (const { record } of this.#ledger.entries.values()) {
      const gracePeriodMs = Math.min(graceOf(record, undefined), Math.max(0, grace - SHUTDOWN_RESERVE_MS));
      this.#want(record.taskId, { kind: "kill", gracePeriodMs, receivedAt: this.#host.wallClock(), cause: "agent" });
    }
    this.#host.setTimer(grace, () => this.#leave(EXIT.unacknowledged, "the agent is lost"));
    this.#leaveIfAllEnded();
  }

  #onSignal(signal: number): void {
    this.#log(`got signal ${signal}; stopping every task`);
    if (this.#ledger.entries.size === 0) return this.#leave(EXIT.done, "there is no task");
    this.#wantAll({ kind: "kill", receivedAt: this.#host.wallClock(), cause: "signal" });
  }

  // Kills

  #wantAll(wanted: Wanted): void {
    for (const taskId of this.#ledger.entries.keys()) this.#want(taskId, wanted);
  }

  #want(taskId: string, wanted: Wanted): void {
    const entry = this.#ledger.entries.get(taskId);
    if (entry === undefined || entry.terminalSince !== undefined) return;
    this.#ledger.want(taskId, wanted);
    if (wanted.kind !== "shutdown") this.#link.send({ type: "kill", taskId, wanted });
    // One that is just being greeted has the task and the wish from the hello, or from the message before.
    if (this.#link.connected || this.#link.greeting) return;
    if (!entry.accepted) this.#endUnaccepted(taskId);
    else this.#killChildAlone(entry);
  }

  #endUnaccepted(taskId: string): void {
    this.#update(taskId, {
      state: "TASK_KILLED",
      message: "killed before a supervisor took the task on",
      reason: "REASON_TASK_KILLED_DURING_LAUNCH",
    });
  }

  /** No supervisor is there, and a command task must not outlive its kill: the worker signals by itself. */
  #killChildAlone({ record }: TaskEntry): void {
    const { wanted } = record;
    if (wanted === undefined || record.child === undefined || record.exit !== undefined) return;
    const reserve = wanted.kind === "shutdown" ? SHUTDOWN_RESERVE_MS : 0;
    const deadline = wanted.receivedAt + graceOf(record, wanted) - reserve;
    this.#children.signal(record.taskId, SIGTERM);
    this.#host.setTimer(Math.max(0, deadline - this.#host.wallClock()), () => {
      if (record.exit === undefined) this.#children.signal(record.taskId, SIGKILL);
    });
  }

  /** The supervisor decides how a task ended; where it is away and this process must leave soon, the worker says what it saw. */
  #tellEndAlone({ record }: TaskEntry): void {
    if (this.#link.connected || !(this.#shutdown || this.#agentLost)) return;
    const { exit } = record;
    const how = exit?.signal === undefined ? `exited with ${exit?.exitCode}` : `ended by signal ${exit.signal}`;
    this.#update(record.taskId, { state: "TASK_KILLED", message: `killed, as the executor shuts down: the process ${how}` });
  }

  /** Kills that the supervisor had begun go on without it when it does not come back at once. */
  #onSupervisorAway(served: boolean): void {
    this.#output.disconnected();
    for (const { record, accepted, terminalSince } of [...this.#ledger.entries.values()]) {
      if (record.wanted !== undefined && !accepted && terminalSince === undefined) this.#endUnaccepted(record.taskId);
    }
    if (!served) return;
    this.#host.setTimer(SUPERVISOR_BACK_MS, () => {
      if (this.#link.connected) return;
      for (const entry of this.#ledger.entries.values()) if (entry.terminalSince === undefined) this.#killChildAlone(entry);
    });
  }

  // The supervisor

  #hello(): Hello {
    const { executorId, frameworkId, sandbox, agentEndpoint: endpoint, shutdownGraceMs } = this.#settings;
    const info = this.#subscribed;
    const startTime = startTimeOf(this.#host, "self");
    const pidNamespace = this.#host.readLink("/proc/self/ns/pid");
    return {
      type: "hello",
      protocol: [...PROTOCOL_VERSIONS],
      version: VERSION,
      pid: this.#host.pid(),
      ...(startTime === null ? {} : { startTime }),
      ...(pidNamespace === null ? {} : { pidNamespace }),
      frameworkId,
      executorId,
      containerId: info?.container_id?.value ?? "unknown",
      agentId: this.#agentId,
      agentHostname: info?.agent_info?.hostname ?? "",
      agentEndpoint: endpoint,
      frameworkName: info?.framework_info?.name ?? "",
      ...(info?.framework_info?.user === undefined ? {} : { frameworkUser: info.framework_info.user }),
      frameworkCapabilities: (info?.framework_info?.capabilities ?? []).map((capability) => capability.type),
      sandbox,
      stdout: this.#host.descriptor(1),
      stderr: this.#host.descriptor(2),
      environment: { ...this.#host.environment() },
      args: [...this.#host.arguments()],
      shutdownGracePeriodMs: shutdownGraceMs,
      tellsWritten: true,
      tasks: this.#ledger.records(),
    };
  }

  #onWelcome(takesOutput: boolean): void {
    this.#accept(this.#ledger.records());
    for (const data of this.#messages.splice(0)) this.#link.send({ type: "message", data });
    const dropped = this.#output.connected((output) => void this.#link.send(output), takesOutput);
    if (dropped > 0) this.#log(`the supervisor was away for too long: ${dropped} bytes of output are in the sandbox, but not relayed`);
  }

  #accept(records: readonly TaskRecord[]): void {
    for (const record of records) {
      const entry = this.#ledger.entries.get(record.taskId);
      if (entry === undefined || entry.accepted) continue;
      entry.accepted = true;
      // A task that was told to have ended meanwhile waits for its acknowledgement by then.
      if (entry.terminalSince === undefined) this.#disarm(entry);
    }
  }

  /** A task waits for one thing at a time; a timer that is not needed any more would hold its TaskInfo in memory. */
  #arm(taskId: string, delayMs: number, due: () => void): void {
    const entry = this.#ledger.entries.get(taskId);
    if (entry === undefined) return;
    this.#disarm(entry);
    entry.timer = this.#host.setTimer(delayMs, due);
  }

  #disarm(entry: TaskEntry): void {
    if (entry.timer !== undefined) this.#host.clearTimer(entry.timer);
    delete entry.timer;
  }

  #giveUpIfUnaccepted(taskId: string): void {
    const entry = this.#ledger.entries.get(taskId);
    if (entry === undefined || entry.accepted || entry.terminalSince !== undefined) return;
    const seconds = Math.round(this.#settings.supervisorTimeoutMs / 1000);
    this.#update(taskId, {
      state: "TASK_FAILED",
      reason: "REASON_CONTAINER_LAUNCH_FAILED",
      message: `no supervisor took the task on within ${seconds} s: ${this.#link.path}: ${this.#link.problem}; is berthd running on this host?`,
    });
  }

  #onSupervisorMessage(message: SupervisorMessage): void {
    switch (message.type) {
      case "update":
        return this.#update(message.taskId, message.update);
      case "checkpoint":
        return this.#holdCheckpoint(message);
      case "spawn":
        return this.#spawn(message);
      case "signal":
        return this.#children.signal(message.taskId, message.signal, message.except);
      case "message":
        return this.#outbox.addExtra({ type: "MESSAGE", message: { data: message.data } });
      case "title":
        return this.#host.setTitle(message.text);
      case "forget":
        this.#output.forget(message.taskId);
        return this.#ledger.forget(message.taskId);
      case "taken":
        return this.#output.taken(message.taskId, message);
      case "output":
        return this.#writeOutput(message);
      case "exit":
        this.#released = true;
        return this.#leaveIfDone();
      default:
        return;
    }
  }

  #writeOutput({ stream, data, sequence }: Extract<SupervisorMessage, { type: "output" }>): void {
    this.#own.write(stream === "stdout" ? 1 : 2, this.#host.decodeBase64(data), () => {
      if (sequence !== undefined) this.#link.send({ type: "written", sequence });
    });
  }

  #holdCheckpoint({ taskId, sequence, data }: Extract<SupervisorMessage, { type: "checkpoint" }>): void {
    const entry = this.#ledger.entries.get(taskId);
    if (entry === undefined || sequence < (entry.record.checkpoint?.sequence ?? 0)) return;
    entry.record.checkpoint = { sequence, data };
    this.#link.send({ type: "held", taskId, sequence });
  }

  /** A second spawn for a task is answered with the first one's result: it never runs twice. */
  #spawn(spawn: Spawn): void {
    const entry = this.#ledger.entries.get(spawn.taskId);
    if (entry === undefined) return;
    const { record } = entry;
    if (entry.terminalSince !== undefined) {
      return void this.#link.send({ type: "spawnFailed", taskId: spawn.taskId, error: "the task is over for the agent" });
    }
    if (record.child === undefined && record.exit === undefined) {
      const child = this.#children.spawn(spawn);
      if (typeof child === "string") return void this.#link.send({ type: "spawnFailed", taskId: spawn.taskId, error: child });
      record.child = child;
      if (spawn.output === "forward") record.output = this.#output.begin(spawn.taskId);
    }
    if (record.child !== undefined) this.#link.send({ type: "spawned", taskId: spawn.taskId, child: record.child });
    if (record.exit !== undefined) this.#link.send({ type: "exited", taskId: spawn.taskId, exit: record.exit });
  }

  // Updates, and the end

  #update(taskId: string, requested: RequestedUpdate): void {
    if (this.#leaving) return;
    const status = this.#ledger.update(taskId, requested);
    if (status === undefined) return;
    this.#outbox.add(status);
    if (this.#ledger.entries.get(taskId)?.terminalSince === undefined) return;
    this.#log(`task ${taskId} ended: ${status.state}${status.message === undefined ? "" : `: ${status.message}`}`);
    if (this.#agentLost) return this.#leaveIfAllEnded();
    this.#expectAcknowledgement(taskId, status.state, status.uuid);
  }

  /** Only time in which the agent could have acknowledged counts: how long it may be away is the session's affair. */
  #expectAcknowledgement(taskId: string, state: string, uuid: string): void {
    const entry = this.#ledger.entries.get(taskId);
    if (entry?.terminalSince === undefined || entry.record.terminalAcknowledged === true) return;
    const now = this.#host.monotonicClock();
    const since = this.#session.subscribed ? Math.max(entry.terminalSince, this.#subscribedSince) : now;
    const wait = this.#settings.updateWaitTimeoutMs ?? (this.#shutdown ? SHUTDOWN_ACKNOWLEDGEMENT_MS : ACKNOWLEDGEMENT_FAIL_SAFE_MS);
    const left = since + wait - now;
    if (left > 0) return this.#arm(taskId, left, () => this.#expectAcknowledgement(taskId, state, uuid));
    this.#log(`WARNING: the agent did not acknowledge ${state} of task ${taskId} within ${wait / 1000} s; giving up`);
    this.#settle(taskId, uuid);
  }

  /** A terminal update that nobody will acknowledge: the task is cleaned up as if it were, and the exit code says so. */
  #settle(taskId: string, uuid: string): void {
    const entry = this.#ledger.entries.get(taskId);
    this.#outbox.forget(taskId);
    const state = entry?.record.lastStatus?.state;
    if (entry?.terminalSince === undefined || state === undefined) return;
    if (!this.#shutdown) this.#undeliverable = true;
    entry.record.terminalAcknowledged = true;
    this.#link.send({ type: "acknowledged", taskId, uuid, state });
    this.#leaveIfDone();
  }

  #allEnded(): boolean {
    return [...this.#ledger.entries.values()].every((entry) => entry.terminalSince !== undefined);
  }

  #leaveIfAllEnded(): void {
    if (this.#allEnded()) this.#leave(EXIT.unacknowledged, "every task has ended, and the agent is lost");
  }

  #leaveIfDone(): void {
    if (!this.#served || !this.#ledger.settled || !this.#outbox.empty) return;
    const accepted = [...this.#ledger.entries.values()].some((entry) => entry.accepted);
    const code = this.#undeliverable ? EXIT.unacknowledged : EXIT.done;
    if (this.#released || !accepted) return this.#leave(code, undefined);
    // The supervisor still removes what the task left; without it the reaper does, and nobody needs this process any more.
    this.#host.setTimer(LEAVE_WITHOUT_SUPERVISOR_MS, () => {
      if (this.#ledger.settled) this.#leave(code, "the supervisor did not say that it is finished");
    });
  }

  #leave(code: number, why: string | undefined): void {
    if (this.#leaving) return;
    this.#leaving = true;
    if (why !== undefined) this.#log(`${why}; exiting with ${code}`);
    this.#children.killAll();
    this.#session.end();
    this.#link.end();
    this.#own.drained(LAST_OUTPUT_MS, () => this.#host.exit(code));
  }

  #log(line: string): void {
    this.#own.write(2, this.#host.encodeUtf8(`${timeOfDay(this.#host.wallClock())} berth-worker: ${line}\n`));
  }
}

/** Reads the environment and runs a worker on this host; with a wrong environment it says everything that is wrong and exits. */
export function runWorker(host: Host): void {
  const settings = workerSettings(host);
  const endpoint = agentEndpoint(host);
  const mistakes = [...(Array.isArray(settings) ? settings : []), ...(typeof endpoint === "string" ? [endpoint] : [])];
  if (Array.isArray(settings) || typeof endpoint === "string") {
    host.writeDescriptor(2, host.encodeUtf8(`berth-worker is an executor that a Mesos agent starts. ${mistakes.join(". ")}.\n`));
    return host.exit(EXIT.badEnvironment);
  }
  new Worker(host, settings, endpoint).start();
}
