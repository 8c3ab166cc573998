import http, { type IncomingMessage, type RequestOptions } from "node:http";
import { DockerError } from "./engine-errors.ts";
import { Gate, KeyedGates, type Leave } from "./engine-gate.ts";
import type { ConnectionLimits, DockerEndpoint } from "./engine-types.ts";

export const CONNECTION_LIMITS: ConnectionLimits = { calls: 8, pulls: 3, execs: 4 };

/** Calls about one container that may be under way at once: a container whose lock hangs in dockerd keeps two connections, not all. */
const CALLS_PER_CONTAINER = 2;
/** An idle kept-alive connection is closed after this long, milliseconds. */
const IDLE_MS = 30_000;
/** A thousand containers are listed in 3 MB. (Parsing is one native call: a heap limit met inside it ends the process, not the thread.) */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

export interface DockerRequest {
  /** The kind of call, for messages: "inspect". */
  operation: string;
  method: "GET" | "POST" | "DELETE";
  /** Encoded, without the API version. */
  path: string;
  query?: Readonly<Record<string, string | number | boolean | undefined>>;
  body?: unknown;
  headers?: Readonly<Record<string, string>>;
  /** What it is about, for messages; for a container also the key of its turn. */
  subject?: string;
  container?: string;
  deadlineMs: number;
  signal?: AbortSignal | undefined;
}

export interface DockerAnswer {
  statusCode: number;
  headers: IncomingMessage["headers"];
  /** Parsed where it is JSON, else text; undefined when empty. */
  body: unknown;
}

/** The uses of a connection that lasts: each is bounded on its own, so that slow pulls never hold up a kill. */
export type StreamUse = "pulls" | "execs" | "logs" | "events";

export interface DockerStream {
  response: IncomingMessage;
  /** Destroys the connection; always call it. */
  close(): void;
}

/**
 * HTTP to dockerd over one bounded keep-alive pool, plus one connection per lasting stream.
 *
 * INVARIANTS: at most `limits.calls` short calls, `limits.pulls` pulls, `limits.execs` commands and as many log reads are connected at
 * a time; every call settles by its deadline; a connection whose answer was not read to its end is never used again.
 */
export class DockerHttp {
  readonly #endpoint: DockerEndpoint;
  readonly #request: typeof http.request;
  readonly #agent: http.Agent;
  readonly #gates: Record<"calls" | StreamUse, Gate>;
  readonly #containers = new KeyedGates(CALLS_PER_CONTAINER);
  readonly #streams = new Map<IncomingMessage, StreamUse>();
  readonly #ended = new AbortController();
  #calls = 0;
  #failures = 0;
  #timeouts = 0;

  private constructor(endpoint: DockerEndpoint, limits: ConnectionLimits, client: { request: typeof http.request; agent: http.Agent }) {
    this.#endpoint = endpoint;
    this.#request = client.request;
    this.#agent = client.agent;
    this.#gates = {
      calls: new Gate(limits.calls),
      pulls: new Gate(limits.pulls),
      execs: new Gate(limits.execs),
      logs: new Gate(limits.execs),
      events: new Gate(1),
    };
  }

  /** Connects to nothing yet. TLS is loaded only where it is used. */
  static async open(endpoint: DockerEndpoint, limits: Partial<ConnectionLimits> = {}): Promise<DockerHttp> {
    const bounds = { ...CONNECTION_LIMITS, ...limits };
    const options = { keepAlive: true, maxSockets: bounds.calls, timeout: IDLE_MS };
    if (endpoint.tls === undefined) return new DockerHttp(endpoint, bounds, { request: http.request, agent: new http.Agent(options) });
    const https = await import("node:https");
    const { verify, ...files } = endpoint.tls;
    const secure = { ...files, rejectUnauthorized: verify };
    // Streams have no agent, so they need the certificates as well.
    const request = ((target: RequestOptions) => https.request({ ...secure, ...target })) as typeof http.request;
    return new DockerHttp(endpoint, bounds, { request, agent: new https.Agent({ ...options, ...secure }) });
  }

  get statistics() {
    const open = (use: StreamUse): number => [...this.#streams.values()].filter((each) => each === use).length;
    const pooled = [...Object.values(this.#agent.sockets), ...Object.values(this.#agent.freeSockets)];
    return {
      connections: {
        calls: pooled.reduce((sum, sockets) => sum + (sockets?.length ?? 0), 0),
        pulls: open("pulls"),
        execs: open("execs"),
        logs: open("logs"),
        events: open("events"),
      },
      waiting: this.#containers.waiting + Object.values(this.#gates).reduce((sum, gate) => sum + gate.waiting, 0),
      calls: this.#calls,
      failures: this.#failures,
      timeouts: this.#timeouts,
    };
  }

  /** A short call, answered whole. Rejects with a DockerError for any status of 400 and above that is not in `answers`. */
  async call(request: DockerRequest, answers: readonly number[] = []): Promise<DockerAnswer> {
    return await this.#counted(request, async (signal) => {
      const leaveContainer = request.container === undefined ? undefined : await this.#containers.enter(request.container, signal);
      let leave: Leave | undefined;
      try {
        leave = await this.#gates.calls.enter(signal);
        const answer = await this.#exchange(request, signal);
        if (answer.statusCode >= 300 && answer.statusCode !== 304 && !answers.includes(answer.statusCode))
          throw this.#refused(request, answer);
        return answer;
      } finally {
        leave?.();
        leaveContainer?.();
      }
    });
  }

  /**
   * A lasting answer on a connection of its own. The deadline counts from when a connection is free until the response's
   * headers; what comes after is the reader's to watch. `signal` ends the stream as well.
   */
  async stream(use: StreamUse, request: DockerRequest): Promise<DockerStream> {
    const leave = await this.#gates[use].enter(
      AbortSignal.any([this.#ended.signal, ...(request.signal === undefined ? [] : [request.signal])]),
    );
    try {
      return await this.#counted(request, async (signal) => {
        const response = await this.#send(request, signal, false);
        this.#streams.set(response, use);
        const close = (): void => void response.destroy();
        for (const each of [request.signal, this.#ended.signal]) each?.addEventListener("abort", close, { once: true });
        response.on("error", () => {}); // The reader hears of it by `close`; without a listener it would end the thread.
        response.once("close", () => {
          for (const each of [request.signal, this.#ended.signal]) each?.removeEventListener("abort", close);
          this.#streams.delete(response);
          leave();
        });
        if (request.signal?.aborted || this.#ended.signal.aborted) close();
        const statusCode = response.statusCode ?? 0;
        if (statusCode >= 300) {
          const body = await readWhole(response, signal);
          throw this.#refused(request, { statusCode, headers: response.headers, body });
        }
        return { response, close };
      });
    } catch (error) {
      leave();
      throw error;
    }
  }

  /** Ends every call and stream. */
  close(): void {
    this.#ended.abort(this.#unreachable({ operation: "call" }, new Error("the Docker engine is closed")));
    this.#agent.destroy();
  }

  async #counted<T>(request: DockerRequest, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const deadline = new AbortController();
    const giveUp = (): void => deadline.abort(request.signal?.aborted ? request.signal.reason : this.#ended.signal.reason);
    const timer = setTimeout(() => {
      this.#timeouts += 1;
      deadline.abort(this.#late(request));
    }, request.deadlineMs);
    for (const each of [request.signal, this.#ended.signal]) each?.addEventListener("abort", giveUp, { once: true });
    if (request.signal?.aborted || this.#ended.signal.aborted) giveUp();
    this.#calls += 1;
    try {
      return await work(deadline.signal);
    } catch (error) {
      this.#failures += 1;
      throw error;
    } finally {
      clearTimeout(timer);
      for (const each of [request.signal, this.#ended.signal]) each?.removeEventListener("abort", giveUp);
    }
  }

  async #exchange(request: DockerRequest, signal: AbortSignal): Promise<DockerAnswer> {
    const response = await this.#send(request, signal, true);
    try {
      const body = await readWhole(response, signal);
      return { statusCode: response.statusCode ?? 0, headers: response.headers, body };
    } catch (error) {
      response.destroy();
      throw error instanceof DockerError || signal.aborted ? error : this.#unreachable(request, error);
    }
  }

  /**
   * dockerd may close a kept-alive connection in the moment in which it is taken for a call. What only reads or can be asked
   * twice is then asked again on a fresh connection; the rest is the caller's decision.
   */
  async #send(request: DockerRequest, signal: AbortSignal, pooled: boolean): Promise<IncomingMessage> {
    const first = await this.#attempt(request, signal, pooled);
    if ("response" in first) return first.response;
    if (!first.stale || request.method === "POST") throw first.error;
    const second = await this.#attempt(request, signal, false);
    if ("response" in second) return second.response;
    throw second.error;
  }

  #attempt(
    request: DockerRequest,
    signal: AbortSignal,
    pooled: boolean,
  ): Promise<{ response: IncomingMessage } | { error: unknown; stale: boolean }> {
    signal.throwIfAborted();
    const payload = request.body === undefined ? undefined : JSON.stringify(request.body);
    return new Promise((resolve) => {
      const sent = this.#request({
        ...(this.#endpoint.socketPath === undefined
          ? { host: this.#endpoint.host, port: this.#endpoint.port }
          : { socketPath: this.#endpoint.socketPath }),
        agent: pooled ? this.#agent : false,
        method: request.method,
        path: `${this.#endpoint.apiVersion === undefined ? "" : `/${this.#endpoint.apiVersion}`}${request.path}${queryString(request.query)}`,
        headers: {
          // Over TLS the name in Host is also the one that the certificate must bear, so only a unix socket gets a made-up one.
          ...(this.#endpoint.socketPath === undefined ? {} : { host: "docker" }),
          ...(payload === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(payload) }),
          ...request.headers,
        },
      });
      const abort = (): void => {
        sent.destroy();
        resolve({ error: signal.reason, stale: false });
      };
      signal.addEventListener("abort", abort, { once: true });
      sent.once("response", (response) => {
        signal.removeEventListener("abort", abort);
        resolve({ response });
      });
      sent.on("error", (error: NodeJS.ErrnoException) => {
        signal.removeEventListener("abort", abort);
        const stale = sent.reusedSocket && (error.code === "ECONNRESET" || error.code === "EPIPE");
        resolve({ error: this.#unreachable(request, error), stale });
      });
      if (!pooled) sent.on("socket", (socket) => socket.setKeepAlive(true, IDLE_MS));
      sent.end(payload);
    });
  }

  #late(request: DockerRequest): DockerError {
    const seconds = request.deadlineMs / 1000;
    return new DockerError(
      `docker ${describe(request)} got no answer from ${this.#endpoint.url} within ${seconds} s: dockerd or this container hangs`,
      {
        code: "BERTH_DOCKER_TIMEOUT",
        operation: request.operation,
        recoverable: true,
      },
    );
  }

  #unreachable(request: { operation: string; subject?: string }, cause: unknown): DockerError {
    const { code, message } = cause as NodeJS.ErrnoException;
    const why =
      code === "ENOENT"
        ? "the socket does not exist; is dockerd running?"
        : code === "EACCES"
          ? "permission denied; this user must be root or in the docker group"
          : code === "ECONNREFUSED"
            ? "nothing listens there; is dockerd running?"
            : message;
    return new DockerError(`docker ${describe(request)}: no connection to ${this.#endpoint.url}: ${why}`, {
      code: "BERTH_DOCKER_UNREACHABLE",
      operation: request.operation,
      recoverable: true,
      cause,
    });
  }

  #refused(request: DockerRequest, answer: DockerAnswer): DockerError {
    const detail = errorText(answer.body);
    return new DockerError(`docker ${describe(request)}: dockerd answered ${answer.statusCode}: ${detail}`, {
      code: "BERTH_DOCKER_HTTP",
      operation: request.operation,
      statusCode: answer.statusCode,
      detail,
      recoverable: answer.statusCode >= 500 || answer.statusCode === 429,
    });
  }
}

function describe(request: { operation: string; subject?: string }): string {
  return request.subject === undefined ? request.operation : `${request.operation} of ${request.subject}`;
}

function errorText(body: unknown): string {
  if (typeof body === "object" && body !== null && "message" in body) return String(body.message).trim();
  return body === undefined ? "no reason given" : String(body).trim().slice(0, 1000);
}

function queryString(query: DockerRequest["query"]): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined) parameters.set(name, String(value));
  }
  return parameters.size === 0 ? "" : `?${parameters}`;
}

/** Reads an answer to its end. Rejects when it breaks off, with the signal's reason when that aborts. */
export function readWhole(response: IncomingMessage, signal: AbortSignal): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const abort = (): void => {
      response.destroy();
      reject(signal.reason);
    };
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    response.on("data", (chunk: Buffer) => {
      length += chunk.length;
      if (length > MAX_ANSWER_BYTES) response.destroy(new Error(`dockerd's answer is over ${MAX_ANSWER_BYTES} bytes`));
      else chunks.push(chunk);
    });
    response.once("end", () => resolve(parse(response, Buffer.concat(chunks, length))));
    response.once("error", reject);
    response.once("close", () => {
      signal.removeEventListener("abort", abort);
      if (!response.readableEnded) reject(new Error("the connection closed in the middle of the answer"));
    });
  });
}

function parse(response: IncomingMessage, bytes: Buffer): unknown {
  if (bytes.length === 0) return undefined;
  const text = bytes.toString("utf8");
  if (!response.headers["content-type"]?.startsWith("application/json")) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
