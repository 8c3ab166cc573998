import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { stateOf } from "@berth/sidecar/generate";

export const ALIVE = 0;
export const UNHEALTHY = 2;

/** How the fake answers a request for the state. */
export type Fault =
  | "none"
  | "500"
  | "an error page"
  | "garbage"
  | "half a body"
  | "half a state, whole as HTTP"
  | "a redirect"
  | "nothing"
  | "an endless body"
  | "10 MB";

/**
 * Sidecar's wire, for what the real one cannot be made to do: its states are in the exact format, of services that the test names,
 * and it fails as it is told. It offers no watch stream, as Sidecars before 2.0, so that every fault meets the reader.
 */
export class FakeSidecar {
  /** Service id → status number. */
  readonly services: Record<string, number> = {};
  fault: Fault = "none";
  /** What a drain is answered with, for each service. */
  drains: (serviceId: string) => number | Promise<number> = () => 202;
  /** Requests for the state so far, by the fault that they met. */
  readonly served = new Map<Fault, number>();
  /** Services whose drain was asked for, in that order. */
  readonly drained: string[] = [];
  /** Requests that are held: nothing was answered, and their clients still wait. */
  held = 0;
  readonly host: string;
  #server: Server | undefined;
  #port = 0;
  readonly #sockets = new Set<Socket>();

  constructor(host: string) {
    this.host = host;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}/state.json`;
  }

  /** Listens; after a `stop` on the same port again. */
  async start(): Promise<void> {
    const server = createServer((request, response) => void this.#answer(request, response));
    server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
    await new Promise<void>((resolve) => server.listen(this.#port, "127.0.0.1", resolve));
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.resume();
    const service = /^\/api\/services\/([0-9a-f]+)\/drain$/.exec(request.url ?? "")?.[1];
    if (service !== undefined && request.method === "POST") {
      this.drained.push(service);
      response.writeHead(await this.drains(service), { "content-type": "application/json" }).end('{"Message":"told"}');
      return;
    }
    if (request.url !== "/state.json") return void response.writeHead(404).end();
    const { fault } = this;
    this.served.set(fault, (this.served.get(fault) ?? 0) + 1);
    this.#fail(fault, request, response);
  }

  #fail(fault: Fault, request: IncomingMessage, response: ServerResponse): void {
    const state = stateOf({ [this.host]: this.services }, fault === "10 MB" ? 10 * 1024 * 1024 : 20_000);
    const json = { "content-type": "application/json" };
    switch (fault) {
      case "500":
        return void response
          .writeHead(500, json)
          .end('{"status":"error","message":"Internal Server Error - Something went terribly wrong"}');
      case "an error page":
        return void response.writeHead(200).end("<html>maintenance</html>");
      case "garbage":
        return void response.writeHead(200, json).end(`${state.slice(0, -1)},oops`);
      case "half a body":
        response.writeHead(200, { ...json, "content-length": state.length });
        return void response.write(state.slice(0, state.length / 2), () => response.destroy());
      case "half a state, whole as HTTP":
        return void response.writeHead(200, json).end(state.slice(0, state.length / 2));
      case "a redirect":
        return void response.writeHead(302, { location: `${this.url}?elsewhere` }).end();
      case "nothing":
        this.held += 1;
        return void request.socket.once("close", () => {
          this.held -= 1;
        });
      case "an endless body": {
        response.writeHead(200, json);
        const more = (): void => {
          if (!response.destroyed) response.write(" ".repeat(64 * 1024), () => setTimeout(more, 5));
        };
        return more();
      }
      default:
        return void response.writeHead(200, json).end(state);
    }
  }
}
