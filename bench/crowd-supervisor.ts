import { createServer, type Server, type Socket } from "node:net";
import { encodeFrame, type SupervisorMessage, type WorkerMessage } from "@berth/protocol";
import { parseWorkerMessage } from "@berth/protocol/supervisor";
import { RecordDecoder } from "@berth/recordio";

/** The supervisor's end of the socket for many workers: it welcomes each, and otherwise says only what a benchmark sends. */
export class CrowdSupervisor {
  readonly path: string;
  readonly #counts = new Map<WorkerMessage["type"], number>();
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #last: Socket | undefined;

  constructor(path: string) {
    this.path = path;
  }

  async listen(): Promise<void> {
    const server = createServer((socket) => this.#accept(socket));
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(this.path, resolve));
    this.#server = server;
  }

  /** As a crash: connections break, nothing is said. */
  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    const server = this.#server;
    this.#server = undefined;
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }

  /** How many messages of a type all workers have sent. */
  count(type: WorkerMessage["type"]): number {
    return this.#counts.get(type) ?? 0;
  }

  /** To the worker that connected last. */
  send(message: SupervisorMessage): void {
    this.#last?.write(encodeFrame(message, Buffer.from));
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    const decoder = new RecordDecoder((record) => {
      const { type } = parseWorkerMessage(record);
      this.#counts.set(type, this.count(type) + 1);
      if (type !== "hello") return;
      this.#last = socket;
      this.send({ type: "welcome", protocol: 1, version: "benchmark" });
    });
    socket.on("data", (bytes: Buffer) => decoder.push(bytes));
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
  }
}
