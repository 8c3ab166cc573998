/**
 * A scripted executor over raw sockets, for tests of the local agent: it does what a test says and nothing by itself. It shares
 * no code with Berth's worker, so that a mistake there is not repeated here.
 */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { RecordDecoder } from "@berth/recordio";
import { waitFor } from "@berth/test-harness";
import type { LocalExecutor } from "./executor.ts";
import type { LocalAgent } from "./local-agent.ts";

export interface RawAnswer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

export interface RawRequest {
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  body?: string;
  chunked?: boolean;
}

type Address = { port: number } | { path: string };

/** Sends one request on a connection of its own and reads the whole answer. */
export async function request(address: Address, options: RawRequest): Promise<RawAnswer> {
  const socket = open(address);
  socket.write(format({ ...options, headers: { ...options.headers, Connection: "close" } }));
  const pieces: Buffer[] = [];
  socket.on("data", (piece: Buffer) => pieces.push(piece));
  await once(socket, "close");
  return parseAnswer(Buffer.concat(pieces));
}

export interface RawEvent {
  type: string;
  [field: string]: unknown;
}

/** One SUBSCRIBE and its stream. */
export interface RawStream {
  answer: RawAnswer;
  events: RawEvent[];
  /** The size of every HTTP chunk that came. */
  chunks: number[];
  /** How the stream ended; undefined while it is open. */
  ended: () => "clean" | "eof" | "reset" | undefined;
  next: (type: string, count?: number) => Promise<RawEvent>;
  socket: Socket;
}

/** What a test needs to speak for an executor of the agent. */
export class RawExecutor {
  readonly #agent: LocalAgent;
  readonly #executor: LocalExecutor;
  readonly #streams: RawStream[] = [];

  constructor(agent: LocalAgent, executor: LocalExecutor) {
    this.#agent = agent;
    this.#executor = executor;
  }

  call(fields: Record<string, unknown>): string {
    const ids = { executor_id: { value: this.#executor.executorId }, framework_id: { value: this.#executor.frameworkId } };
    return JSON.stringify({ ...ids, ...fields });
  }

  send(fields: Record<string, unknown>): Promise<RawAnswer> {
    return request({ port: this.#agent.port }, { headers: this.#headers(), body: this.call(fields) });
  }

  status(taskId: string, state: string, more: Record<string, unknown> = {}): Record<string, unknown> & { uuid: string } {
    const uuid = Buffer.from(randomUUID().replaceAll("-", ""), "hex").toString("base64");
    const executorId = { value: this.#executor.executorId };
    return { task_id: { value: taskId }, state, source: "SOURCE_EXECUTOR", uuid, executor_id: executorId, timestamp: 1.5, ...more };
  }

  update(status: Record<string, unknown>): Promise<RawAnswer> {
    return this.send({ type: "UPDATE", update: { status } });
  }

  async subscribe(unacknowledged: { tasks?: unknown[]; updates?: unknown[] } = {}): Promise<RawStream> {
    const { tasks = [], updates = [] } = unacknowledged;
    const subscribe = { unacknowledged_tasks: tasks, unacknowledged_updates: updates.map((status) => ({ status })) };
    const socket = open({ port: this.#agent.port });
    socket.write(format({ headers: this.#headers(), body: this.call({ type: "SUBSCRIBE", subscribe }) }));
    const stream = await readStream(socket);
    this.#streams.push(stream);
    return stream;
  }

  close(): void {
    for (const stream of this.#streams) stream.socket.destroy();
  }

  #headers(): Record<string, string> {
    const { token } = this.#executor;
    return {
      "Content-Type": "application/json",
      Accept: "application/json",
      ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
    };
  }
}

function open(address: Address): Socket {
  const socket = connect("port" in address ? { host: "127.0.0.1", port: address.port } : { path: address.path });
  socket.on("error", () => {});
  return socket;
}

function format({ method = "POST", path = "/api/v1/executor", headers = {}, body = "", chunked = false }: RawRequest): string {
  const lines = [`${method} ${path} HTTP/1.1`, "Host: agent", ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`)];
  lines.push(chunked ? "Transfer-Encoding: chunked" : `Content-Length: ${Buffer.byteLength(body)}`);
  const content = chunked ? `${Buffer.byteLength(body).toString(16)}\r\n${body}\r\n0\r\n\r\n` : body;
  return `${lines.join("\r\n")}\r\n\r\n${content}`;
}

function parseAnswer(bytes: Buffer): RawAnswer {
  const end = bytes.indexOf("\r\n\r\n");
  if (end === -1) throw new Error(`no HTTP answer: ${JSON.stringify(bytes.toString())}`);
  const [first = "", ...lines] = bytes.toString("utf8", 0, end).split("\r\n");
  const headers = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
  return { status: Number(first.split(" ")[1]), headers, body: bytes.toString("utf8", end + 4) };
}

async function readStream(socket: Socket): Promise<RawStream> {
  const events: RawEvent[] = [];
  const chunks: number[] = [];
  const decoder = new RecordDecoder((record) => void events.push(JSON.parse(Buffer.from(record).toString())));
  let answer: RawAnswer | undefined;
  let ended: "clean" | "eof" | "reset" | undefined;
  let waiting = Buffer.alloc(0);
  socket.on("data", (piece: Buffer) => {
    waiting = Buffer.concat([waiting, piece]);
    if (answer === undefined) {
      const end = waiting.indexOf("\r\n\r\n");
      if (end === -1) return;
      answer = parseAnswer(waiting);
      if (answer.status !== 200) return;
      waiting = waiting.subarray(end + 4);
    }
    for (;;) {
      const lineEnd = waiting.indexOf("\r\n");
      if (lineEnd === -1) return;
      const size = Number.parseInt(waiting.toString("latin1", 0, lineEnd), 16);
      if (waiting.length < lineEnd + size + 4) return;
      if (size === 0) {
        ended ??= "clean";
        socket.end();
        return;
      }
      chunks.push(size);
      decoder.push(waiting.subarray(lineEnd + 2, lineEnd + 2 + size));
      waiting = waiting.subarray(lineEnd + size + 4);
    }
  });
  socket.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "ECONNRESET") ended ??= "reset";
  });
  socket.on("close", () => {
    ended ??= "eof";
  });
  const head = await waitFor(() => answer ?? (ended === undefined ? undefined : "broken"), { what: "the answer to SUBSCRIBE" });
  if (head === "broken") throw new Error(`SUBSCRIBE: the connection ended with ${ended}`);
  const next = (type: string, count = 1): Promise<RawEvent> =>
    waitFor(() => events.filter((event) => event.type === type)[count - 1], {
      what: `event ${type} number ${count} (have ${events.map((event) => event.type).join(", ")})`,
      interval: 5,
    });
  return { answer: head, events, chunks, ended: () => ended, next, socket };
}
