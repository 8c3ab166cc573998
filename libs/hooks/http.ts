import { readFileSync } from "node:fs";
import { Agent, request } from "undici";

/** Where a service's HTTP API is, and how to speak to it. */
export interface HttpEndpoint {
  /** `http://host:port` or `https://host:port`; no slash at the end. */
  origin: string;
  dispatcher: Agent;
}

export interface HttpCall {
  method: "GET" | "PUT" | "POST" | "DELETE";
  /** With its query. */
  path: string;
  headers?: Record<string, string>;
  body?: unknown;
  /** Until the whole answer is there, milliseconds. */
  timeoutMs: number;
  signal: AbortSignal;
}

export interface HttpAnswer {
  status: number;
  text: string;
}

const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

export interface EndpointOptions {
  ca?: string;
  cert?: string;
  key?: string;
  serverName?: string;
  verify?: boolean;
}

/** Makes an endpoint of `http://…`, `https://…`, `unix:///path` or a bare `host:port`. `ca`, `cert` and `key` are file names. */
export function httpEndpoint(address: string, options: EndpointOptions = {}): HttpEndpoint {
  const socketPath = /^unix:\/\/(.+)$/.exec(address)?.[1];
  const connect = {
    timeout: 5000,
    ...(socketPath === undefined ? {} : { socketPath }),
    ...(options.ca === undefined ? {} : { ca: readFileSync(options.ca) }),
    ...(options.cert === undefined ? {} : { cert: readFileSync(options.cert) }),
    ...(options.key === undefined ? {} : { key: readFileSync(options.key) }),
    ...(options.serverName === undefined ? {} : { servername: options.serverName }),
    ...(options.verify === false ? { rejectUnauthorized: false } : {}),
  };
  const written = socketPath === undefined ? (/^https?:\/\//.test(address) ? address : `http://${address}`) : "http://localhost";
  return { origin: written.replace(/\/+$/, ""), dispatcher: new Agent({ connect, connections: 8 }) };
}

/** Makes one call. Rejects when there was no answer in time; any status is an answer. The query is in no error: it may hold a key. */
export async function callHttp(endpoint: HttpEndpoint, call: HttpCall): Promise<HttpAnswer> {
  const signal = AbortSignal.any([call.signal, AbortSignal.timeout(call.timeoutMs)]);
  try {
    const { statusCode, body } = await request(`${endpoint.origin}${call.path}`, {
      dispatcher: endpoint.dispatcher,
      method: call.method,
      headers: { accept: "application/json", ...(call.body === undefined ? {} : { "content-type": "application/json" }), ...call.headers },
      ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
      signal,
    });
    let text = "";
    for await (const chunk of body) {
      text += String(chunk);
      if (text.length > MAX_ANSWER_BYTES) throw new Error(`the answer is larger than ${MAX_ANSWER_BYTES} bytes`);
    }
    return { status: statusCode, text };
  } catch (error) {
    if (call.signal.aborted) throw call.signal.reason;
    const why = signal.aborted ? `no answer within ${call.timeoutMs / 1000} s` : reasonOf(error);
    throw new Error(`${call.method} ${endpoint.origin}${call.path.split("?")[0]}: ${why}`, { cause: error });
  }
}

function reasonOf(error: unknown): string {
  const { code, message } = error as { code?: string; message?: string };
  return message || code || String(error);
}
