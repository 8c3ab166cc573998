import { once } from "node:events";
import { rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { Socket } from "node:net";

/** Which listener a request came through: their rules for paths differ. */
export type Transport = "tcp" | "domain-socket";

/** Answers one request; the body was read. */
export type RequestHandler = (request: IncomingMessage, body: string, response: ServerResponse, transport: Transport) => void;

export interface FrontOptions {
  domainSocketPath: string | undefined;
  tls: { key: string; cert: string } | undefined;
}

/**
 * The agent's listeners. `close()` is what SIGKILL does to them: the port refuses, connections break; `open()` afterwards
 * takes the same port and makes the socket file anew.
 */
export class HttpFront {
  readonly #options: FrontOptions;
  readonly #handler: RequestHandler;
  readonly #sockets = new Set<Socket>();
  #servers: Server[] = [];
  #port = 0;

  constructor(options: FrontOptions, handler: RequestHandler) {
    this.#options = options;
    this.#handler = handler;
  }

  /** The TCP port; fixed from the first `open()` on. */
  get port(): number {
    return this.#port;
  }

  async open(): Promise<void> {
    const { domainSocketPath, tls } = this.#options;
    const tcp = this.#create("tcp", tls);
    await listen(tcp, { host: "127.0.0.1", port: this.#port });
    const address = tcp.address();
    if (address !== null && typeof address === "object") this.#port = address.port;
    if (domainSocketPath === undefined) return;
    rmSync(domainSocketPath, { force: true });
    await listen(this.#create("domain-socket", undefined), { path: domainSocketPath });
  }

  async close(): Promise<void> {
    const closed = this.#servers.splice(0).map(async (server) => {
      server.close();
      if (server.listening) await once(server, "close");
    });
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(closed);
  }

  #create(transport: Transport, tls: FrontOptions["tls"]): Server {
    const answer = (request: IncomingMessage, response: ServerResponse): void => void this.#read(request, response, transport);
    // No header of Node's own, no idle timeout and no limit in time: libprocess has none of them.
    const options = { keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0, noDelay: true };
    const server =
      tls === undefined ? createServer(options, answer) : (createTlsServer({ ...options, ...tls }, answer) as unknown as Server);
    server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => {});
    });
    if (tls !== undefined) {
      // A plain connection to a TLS port is reset, as measured.
      server.on("tlsClientError", (_error: Error, socket: Socket) => socket.destroy());
    }
    this.#servers.push(server);
    return server;
  }

  async #read(request: IncomingMessage, response: ServerResponse, transport: Transport): Promise<void> {
    try {
      const pieces: Buffer[] = [];
      for await (const piece of request) pieces.push(piece as Buffer);
      if (!response.destroyed) this.#handler(request, Buffer.concat(pieces).toString("utf8"), response, transport);
    } catch {
      // The connection broke while the body came.
      response.destroy();
    }
  }
}

/** Answers with a status and a text, as libprocess does: no body at all for 202. */
export function answer(response: ServerResponse, status: number, text = "", headers: Record<string, string> = {}): void {
  const body = Buffer.from(text);
  response.removeHeader("Connection");
  response.writeHead(status, {
    ...headers,
    ...(body.length === 0 ? {} : { "Content-Type": "text/plain; charset=utf-8" }),
    "Content-Length": body.length,
  });
  response.end(body);
}

async function listen(server: Server, where: { host: string; port: number } | { path: string }): Promise<void> {
  server.listen(where);
  await once(server, "listening");
}
