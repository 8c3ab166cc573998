import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { ErrorBody } from "@berth/admin-api";
import { TaskFailure } from "@berth/mesos";
import type { TaskLog } from "../task/ports.ts";

/** What a handler is given of a request. */
export interface AdminRequest {
  /** The `:name` parts of the route's path, decoded. */
  parameters: Record<string, string>;
  query: URLSearchParams;
  /** The parsed JSON body; undefined without one. */
  body: unknown;
  /** Aborts when the client goes away. */
  signal: AbortSignal;
}

/** A JSON answer, a text, or a stream of lines that lasts until the client or the source ends it. */
export type AdminAnswer = { json: unknown } | { text: string; type: string } | { lines: AsyncIterable<string> };

export type AdminHandler = (request: AdminRequest) => AdminAnswer | Promise<AdminAnswer>;

/** "GET /v1/tasks/:id" → handler. */
export type AdminRoutes = Record<string, AdminHandler>;

/** An error that the client caused or must know about. */
export class AdminError extends Error {
  override readonly name = "AdminError";
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const MAX_BODY_BYTES = 16 * 1024 * 1024;

/** HTTP/JSON over the admin socket: a table of routes, errors as `{"error": "…"}`. Everything that goes out passes through `mask`. */
export function createAdminServer(routes: AdminRoutes, log: TaskLog, mask: (text: string) => string): Server {
  const table = Object.entries(routes).map(([route, handler]) => compile(route, handler));
  return createServer((request, response) => {
    void answer(table, request, response, mask).catch((error: unknown) => {
      const status = error instanceof AdminError ? error.status : TaskFailure.is(error) ? 422 : 500;
      if (status === 500) log.error({ err: error, path: request.url }, "an admin request failed");
      if (response.headersSent || response.destroyed) return response.destroy();
      // What is still on its way of a request that is refused is not waited for.
      if (!request.complete) response.setHeader("connection", "close");
      send(response, status, "application/json", mask(JSON.stringify(errorBody(error))));
    });
  });
}

interface CompiledRoute {
  method: string;
  parts: string[];
  handler: AdminHandler;
}

function compile(route: string, handler: AdminHandler): CompiledRoute {
  const [method = "", path = ""] = route.split(" ");
  return { method, parts: path.split("/"), handler };
}

async function answer(
  table: readonly CompiledRoute[],
  request: IncomingMessage,
  response: ServerResponse,
  mask: (text: string) => string,
): Promise<void> {
  const url = URL.parse(request.url ?? "/", "http://admin");
  if (url === null) throw new AdminError(400, "the path is no valid URL");
  const matches = table
    .map((route) => ({ route, parameters: match(route.parts, url.pathname) }))
    .filter((entry) => entry.parameters !== undefined);
  const found = matches.find((entry) => entry.route.method === request.method);
  if (found === undefined) {
    throw matches.length > 0
      ? new AdminError(405, `${request.method} is not offered for ${url.pathname}`)
      : new AdminError(404, `there is no ${url.pathname}`);
  }
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const body = await readJson(request);
  const result = await found.route.handler({ parameters: found.parameters ?? {}, query: url.searchParams, body, signal: gone.signal });
  if ("json" in result) return send(response, 200, "application/json", `${mask(JSON.stringify(result.json))}\n`);
  if ("text" in result) return send(response, 200, result.type, mask(result.text));
  await stream(response, result.lines, mask);
}

function match(parts: readonly string[], pathname: string): Record<string, string> | undefined {
  const actual = pathname.split("/");
  if (actual.length !== parts.length) return undefined;
  const parameters: Record<string, string> = {};
  for (const [index, part] of parts.entries()) {
    const value = actual[index] ?? "";
    if (part.startsWith(":")) parameters[part.slice(1)] = decode(value);
    else if (part !== value) return undefined;
  }
  return parameters;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new AdminError(400, "the path is not valid percent-encoding");
  }
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > MAX_BODY_BYTES) throw new AdminError(413, `a request may have at most ${MAX_BODY_BYTES} bytes`);
    chunks.push(chunk as Buffer);
  }
  if (size === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch {
    throw new AdminError(400, "the request's body is not JSON");
  }
}

async function stream(response: ServerResponse, lines: AsyncIterable<string>, mask: (text: string) => string): Promise<void> {
  response.writeHead(200, { "content-type": "application/x-ndjson" });
  response.flushHeaders();
  try {
    for await (const line of lines) {
      if (response.destroyed) return;
      if (!response.write(`${mask(line)}\n`)) await drained(response);
    }
  } catch (error) {
    // The status is sent already: the error is the last line.
    response.write(`${mask(JSON.stringify(errorBody(error)))}\n`);
  }
  response.end();
}

function errorBody(error: unknown): ErrorBody {
  return { error: error instanceof Error ? error.message : String(error) };
}

/** The client has read on, or is gone. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off("drain", done).off("close", done);
      resolve();
    };
    response.on("drain", done).on("close", done);
  });
}

function send(response: ServerResponse, status: number, type: string, text: string): void {
  response.writeHead(status, { "content-type": type });
  response.end(text);
}
