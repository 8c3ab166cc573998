import { createServer, type Server, type Socket } from "node:net";
import { encodeFrame, type Hello, type SupervisorMessage, type WorkerMessage } from "@berth/protocol";
import { parseWorkerMessage } from "@berth/protocol/supervisor";
import { RecordDecoder } from "@berth/recordio";
import type { TaskLog } from "../task/ports.ts";
import type { Executor, WorkerConnection } from "./executor.ts";
import { type Executors, Refusal } from "./executors.ts";

/** A peer that has connected must say hello within this time, milliseconds. */
const HELLO_TIMEOUT_MS = 10_000;
/**
 * Bytes that may wait for a worker that does not read before its connection is given up: the largest frame and something beside.
 * Queued small, they weigh several times as much in memory.
 */
const MAX_QUEUED_BYTES = 20 * 1024 * 1024;

/** The listening end of the workers' socket. A peer that breaks the protocol loses its own connection and nothing else. */
export class WorkerServer {
  readonly #executors: Executors;
  readonly #log: TaskLog;
  readonly #sockets = new Set<Socket>();
  readonly server: Server;

  constructor(executors: Executors, log: TaskLog) {
    this.#executors = executors;
    this.#log = log;
    this.server = createServer((socket) => this.#accept(socket));
  }

  /** Ends every connection in order; the workers come back to the next supervisor. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    const peer = new Peer(socket, this.#executors, this.#log);
    socket.on("data", (bytes: Buffer) => peer.data(bytes));
    socket.on("error", () => {}); // `close` follows and says all there is to say.
    socket.on("close", () => {
      this.#sockets.delete(socket);
      peer.closed();
    });
  }
}

/** One connection, from its first byte to its last. */
class Peer implements WorkerConnection {
  readonly #socket: Socket;
  readonly #executors: Executors;
  readonly #log: TaskLog;
  readonly #decoder: RecordDecoder;
  readonly #helloTimer: NodeJS.Timeout;
  #executor: Executor | undefined;
  #over = false;

  constructor(socket: Socket, executors: Executors, log: TaskLog) {
    this.#socket = socket;
    this.#executors = executors;
    this.#log = log;
    this.#decoder = new RecordDecoder((record) => this.#record(record));
    this.#helloTimer = setTimeout(() => this.close("the peer said no hello"), HELLO_TIMEOUT_MS);
  }

  get queuedBytes(): number {
    return this.#socket.writableLength;
  }

  send(message: SupervisorMessage): void {
    if (this.#over) return;
    this.#socket.write(encodeFrame(message, Buffer.from));
    if (this.#socket.writableLength <= MAX_QUEUED_BYTES) return;
    this.#log.warn(
      { ...this.#fields(), bytes: this.#socket.writableLength },
      "a worker does not read what it is sent; its connection is closed",
    );
    this.close("the worker does not read what it is sent");
    // Nothing of what waits will be read: it is not held in memory for an orderly end.
    this.#socket.destroy();
  }

  close(reason: string): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#helloTimer);
    this.#log.debug({ ...this.#fields(), reason }, "a worker's connection is closed");
    this.#socket.end();
    // An orderly end reaches the peer; one that does not answer it is cut.
    setTimeout(() => this.#socket.destroy(), 1000).unref();
  }

  data(bytes: Buffer): void {
    if (this.#over) return;
    try {
      this.#decoder.push(bytes);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#log.warn({ ...this.#fields(), err: message }, "a peer on the workers' socket broke the protocol; its connection is closed");
      this.close(message);
    }
  }

  closed(): void {
    this.#over = true;
    clearTimeout(this.#helloTimer);
    this.#executor?.detach(this);
  }

  #record(record: Uint8Array): void {
    if (this.#over) return;
    const message = parseWorkerMessage(record);
    if (this.#executor !== undefined) {
      if (message.type === "hello") throw new Error("a second hello on one connection");
      this.#executor.receive(message);
    } else if (message.type === "hello") this.#hello(message);
    else throw new Error(`a ${(message as WorkerMessage).type} message before hello`);
  }

  #hello(hello: Hello): void {
    clearTimeout(this.#helloTimer);
    try {
      this.#executor = this.#executors.hello(this, hello);
      this.#log.info({ ...this.#fields(), pid: hello.pid, tasks: hello.tasks.map((task) => task.taskId) }, "a worker is connected");
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#log.warn({ executorId: hello.executorId, pid: hello.pid, reason: error.message, retry: error.retry }, "a worker is refused");
      this.send({ type: "refuse", reason: error.message, retry: error.retry });
      this.close(error.message);
    }
  }

  #fields(): object {
    const hello = this.#executor?.hello;
    return hello === undefined ? {} : { frameworkId: hello.frameworkId, executorId: hello.executorId };
  }
}
