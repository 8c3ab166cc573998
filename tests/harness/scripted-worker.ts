import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync, readlinkSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { isTerminal } from "@berth/mesos";
import {
  encodeFrame,
  type Hello,
  type RequestedUpdate,
  type SupervisorMessage,
  type TaskRecord,
  type Wanted,
  type WorkerMessage,
} from "@berth/protocol";
import { RecordDecoder } from "@berth/recordio";
import { waitFor } from "./wait-for.ts";

export interface ScriptedWorkerOptions {
  socket: string;
  sandbox: string;
  frameworkId?: string;
  executorId?: string;
  capabilities?: string[];
  environment?: Record<string, string>;
  /** Whose process this claims to be; default: this one. */
  identity?: { pid: number; startTime: string };
}

/**
 * The worker's end of the socket without an agent behind it: it holds what a worker holds (records, checkpoints, the last
 * status) and lets a test decide when it answers. Acknowledges terminal updates by itself, as an agent that is well would.
 */
export class ScriptedWorker {
  readonly hello: Omit<Hello, "tasks">;
  readonly records = new Map<string, TaskRecord>();
  readonly updates: Array<{ taskId: string } & RequestedUpdate> = [];
  readonly received: SupervisorMessage[] = [];
  /** Decides whether a checkpoint is answered by `held`; default: always. */
  holds: (taskId: string, data: { phase?: string }) => boolean = () => true;
  acknowledges = true;
  exitCode: number | undefined;
  #socket: Socket | undefined;
  readonly #path: string;

  constructor(options: ScriptedWorkerOptions) {
    this.#path = options.socket;
    const own = { kind: "other", device: "", inode: "" } as const;
    this.hello = {
      type: "hello",
      protocol: [1],
      version: "scripted",
      ...(options.identity ?? { pid: process.pid, startTime: startTimeOf(process.pid) }),
      pidNamespace: readlinkSync("/proc/self/ns/pid"),
      frameworkId: options.frameworkId ?? "framework-1",
      executorId: options.executorId ?? `executor-${randomUUID()}`,
      containerId: randomUUID(),
      agentId: "agent-1",
      agentHostname: "host.example",
      agentEndpoint: "127.0.0.1:5051",
      frameworkName: "test",
      frameworkCapabilities: options.capabilities ?? [],
      sandbox: options.sandbox,
      stdout: own,
      stderr: own,
      environment: options.environment ?? {},
      args: [],
      shutdownGracePeriodMs: 5000,
    };
  }

  /** Connects and says hello with everything that is held. Resolves with the first answer. */
  async connect(): Promise<SupervisorMessage> {
    const socket = connect(this.#path);
    await once(socket, "connect");
    this.#socket = socket;
    const decoder = new RecordDecoder((record) => this.#hear(JSON.parse(Buffer.from(record).toString("utf8")) as SupervisorMessage));
    socket.on("data", (bytes: Buffer) => decoder.push(bytes));
    socket.on("error", () => {});
    const before = this.received.length;
    this.send({ ...this.hello, tasks: [...this.records.values()] });
    return await waitFor(() => this.received[before], { what: "an answer to hello" });
  }

  get connected(): boolean {
    return this.#socket !== undefined && !this.#socket.destroyed;
  }

  async disconnect(): Promise<void> {
    const socket = this.#socket;
    if (socket === undefined || socket.destroyed) return;
    socket.destroy();
    await once(socket, "close");
  }

  send(message: WorkerMessage): void {
    this.#socket?.write(encodeFrame(message, Buffer.from));
  }

  /** Bytes as they are, for what no worker would say. */
  sendRaw(bytes: Uint8Array | string): void {
    this.#socket?.write(bytes);
  }

  launch(...taskInfos: Array<{ task_id: { value: string }; [field: string]: unknown }>): void {
    const group = taskInfos.length > 1 ? { group: taskInfos.map((info) => info.task_id.value) } : {};
    const tasks = taskInfos.map((taskInfo) => ({ taskId: taskInfo.task_id.value, taskInfo, launchedAt: Date.now(), ...group }));
    for (const record of tasks) this.records.set(record.taskId, record);
    this.send({ type: "launch", tasks });
  }

  kill(taskId: string, gracePeriodMs?: number): void {
    const wanted: Wanted = {
      kind: "kill",
      receivedAt: Date.now(),
      cause: "framework",
      ...(gracePeriodMs === undefined ? {} : { gracePeriodMs }),
    };
    const record = this.records.get(taskId);
    if (record !== undefined) record.wanted = wanted;
    this.send({ type: "kill", taskId, wanted });
  }

  statesOf(taskId: string): string[] {
    return this.updates.filter((update) => update.taskId === taskId).map((update) => update.state);
  }

  /** Waits for an update of a task and returns it. */
  async update(taskId: string, state: string, deadline = 30_000): Promise<RequestedUpdate> {
    return await waitFor(() => this.updates.find((update) => update.taskId === taskId && update.state === state), {
      deadline,
      what: `${state} of ${taskId} (so far: ${this.statesOf(taskId).join(", ") || "nothing"})`,
    });
  }

  #hear(message: SupervisorMessage): void {
    this.received.push(message);
    if (message.type === "exit") this.exitCode = message.code;
    if (message.type === "checkpoint") this.#hold(message);
    if (message.type === "update") this.#take(message.taskId, message.update);
  }

  #hold({ taskId, sequence, data }: Extract<SupervisorMessage, { type: "checkpoint" }>): void {
    const record = this.records.get(taskId);
    if (record === undefined || !this.holds(taskId, data as { phase?: string })) return;
    record.checkpoint = { sequence, data };
    this.send({ type: "held", taskId, sequence });
  }

  #take(taskId: string, update: RequestedUpdate): void {
    const record = this.records.get(taskId);
    if (record === undefined) return;
    if (record.lastStatus !== undefined && isTerminal(record.lastStatus.state)) return;
    this.updates.push({ taskId, ...update });
    record.lastStatus = { state: update.state, at: Date.now(), ...(update.healthy === undefined ? {} : { healthy: update.healthy }) };
    if (!this.acknowledges) return;
    if (isTerminal(update.state)) record.terminalAcknowledged = true;
    this.send({ type: "acknowledged", taskId, uuid: randomUUID(), state: update.state });
  }
}

/** A living process to be killed in place of a worker: a scripted worker that takes its `identity` dies with it. The caller ends it. */
export function startWorkerStandIn(): { identity: { pid: number; startTime: string }; child: ChildProcess } {
  const child = spawn("sleep", ["600"], { stdio: "ignore" });
  const pid = child.pid as number;
  return { identity: { pid, startTime: startTimeOf(pid) }, child };
}

function startTimeOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}
