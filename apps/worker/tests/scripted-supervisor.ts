import { rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { isTerminal } from "@berth/mesos";
import { encodeFrame, type Hello, type SupervisorMessage, type TaskRecord, type WorkerMessage } from "@berth/protocol";
import { parseWorkerMessage } from "@berth/protocol/supervisor";
import { RecordDecoder } from "@berth/recordio";

type Said<Type extends WorkerMessage["type"]> = Extract<WorkerMessage, { type: Type }>;

/**
 * The supervisor's end of the socket with a runtime that exists only in this object: a test says when a task ends. With
 * `runs` on it answers launches with STARTING and RUNNING, kills with KILLED, and lets the worker go when all is acknowledged.
 * It keeps nothing over `stop` but what a real supervisor would find in its runtime: which task has ended, and how.
 */
export class ScriptedSupervisor implements AsyncDisposable {
  readonly path: string;
  /** Everything that workers said, in order, over all connections. */
  readonly heard: WorkerMessage[] = [];
  runs: boolean;
  /** What a hello is answered with, instead of `welcome`. */
  refusal: { reason: string; retry: boolean } | undefined;
  readonly #ends = new Map<string, "TASK_FINISHED" | "TASK_FAILED" | "TASK_KILLED">();
  #server: Server | undefined;
  #socket: Socket | undefined;
  #tasks = new Map<string, TaskRecord>();
  readonly #sockets = new Set<Socket>();

  private constructor(path: string, runs: boolean) {
    this.path = path;
    this.runs = runs;
  }

  static async start(path: string, options: { runs?: boolean } = {}): Promise<ScriptedSupervisor> {
    const supervisor = new ScriptedSupervisor(path, options.runs ?? true);
    await supervisor.listen();
    return supervisor;
  }

  async listen(): Promise<void> {
    rmSync(this.path, { force: true });
    this.#server = createServer((socket) => this.#accept(socket));
    await new Promise<void>((resolve) => this.#server?.listen(this.path, resolve));
  }

  /** As `kill -9`: connections break, nothing is said. `listen` brings another one. */
  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#socket = undefined;
    this.#tasks = new Map();
    const server = this.#server;
    this.#server = undefined;
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  get connected(): boolean {
    return this.#socket !== undefined;
  }

  said<Type extends WorkerMessage["type"]>(type: Type): Array<Said<Type>> {
    return this.heard.filter((message): message is Said<Type> => message.type === type);
  }

  get lastHello(): Hello | undefined {
    return this.said("hello").at(-1);
  }

  send(message: SupervisorMessage): void {
    this.#socket?.write(encodeFrame(message, Buffer.from));
  }

  sendBytes(bytes: Uint8Array): void {
    this.#socket?.write(bytes);
  }

  /** The task's process ends: told at once, or when a supervisor is there again. */
  end(taskId: string, state: "TASK_FINISHED" | "TASK_FAILED" | "TASK_KILLED"): void {
    if (!this.#ends.has(taskId)) this.#ends.set(taskId, state);
    this.#reconcile();
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    const decoder = new RecordDecoder((record) => this.#hear(socket, parseWorkerMessage(record)));
    socket.on("data", (bytes: Buffer) => decoder.push(bytes));
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#sockets.delete(socket);
      if (this.#socket === socket) this.#socket = undefined;
    });
  }

  #hear(socket: Socket, message: WorkerMessage): void {
    this.heard.push(message);
    if (message.type === "hello") {
      if (this.refusal !== undefined) {
        socket.end(encodeFrame({ type: "refuse", ...this.refusal }, Buffer.from));
        return;
      }
      this.#socket = socket;
      this.send({ type: "welcome", protocol: 1, version: "scripted" });
    }
    if (!this.runs) return;
    if (message.type === "hello" || message.type === "launch") {
      for (const record of message.tasks) this.#tasks.set(record.taskId, record);
    }
    if (message.type === "kill") this.#want(message.taskId);
    if (message.type === "shutdown") for (const taskId of this.#tasks.keys()) this.#want(taskId);
    if (message.type === "acknowledged") {
      const record = this.#tasks.get(message.taskId);
      if (record !== undefined && isTerminal(message.state)) record.terminalAcknowledged = true;
    }
    this.#reconcile();
  }

  #want(taskId: string): void {
    if (!this.#ends.has(taskId)) this.#ends.set(taskId, "TASK_KILLED");
  }

  #reconcile(): void {
    if (!this.runs || this.#socket === undefined) return;
    for (const [taskId, record] of this.#tasks) {
      if (record.terminalAcknowledged === true) continue;
      if (record.wanted !== undefined) this.#want(taskId);
      const end = this.#ends.get(taskId);
      if (record.lastStatus === undefined) {
        this.send({ type: "update", taskId, update: { state: "TASK_STARTING" } });
        this.send({ type: "update", taskId, update: { state: "TASK_RUNNING" } });
        record.lastStatus = { state: "TASK_RUNNING", at: 0 };
      }
      if (end === undefined || isTerminal(record.lastStatus.state)) continue;
      this.send({ type: "update", taskId, update: { state: end, message: "over" } });
      record.lastStatus = { state: end, at: 0 };
    }
    const records = [...this.#tasks.values()];
    if (records.length > 0 && records.every((record) => record.terminalAcknowledged === true)) this.send({ type: "exit", code: 0 });
  }
}
