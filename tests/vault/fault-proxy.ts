import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** What happens to a request instead of, or before, being passed on. */
export type Fault =
  | { kind: "none" }
  | { kind: "status"; status: number; body: string; headers?: Record<string, string> }
  | { kind: "slow"; ms: number }
  /** The connection is dropped without an answer. */
  | { kind: "drop" }
  /** The request is taken and never answered. */
  | { kind: "hang" };

export interface FaultProxy extends AsyncDisposable {
  address: string;
  /** Decides for each request; `path` starts with /v1/. */
  fault: (path: string) => Fault;
  /** "GET /v1/…" in order of arrival, since the start. */
  seen: string[];
}

/** Stands before a real server and breaks what the test tells it to: the server itself cannot be made to fail like that. */
export async function startFaultProxy(target: string, port = 0): Promise<FaultProxy> {
  const sockets = new Set<Socket>();
  const proxy: FaultProxy = { address: "", fault: () => ({ kind: "none" }), seen: [], [Symbol.asyncDispose]: close };
  const server = createServer((incoming, outgoing) => void serve(incoming, outgoing));
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  proxy.address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return proxy;

  async function serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const path = incoming.url ?? "/";
    proxy.seen.push(`${incoming.method} ${path}`);
    const fault = proxy.fault(path);
    if (fault.kind === "hang") return;
    if (fault.kind === "drop") return void incoming.socket.destroy();
    if (fault.kind === "slow") await sleep(fault.ms);
    if (fault.kind === "status") {
      incoming.resume();
      outgoing.writeHead(fault.status, { "content-type": "application/json", ...fault.headers }).end(fault.body);
      return;
    }
    const onward = request(new URL(path, target), { method: incoming.method, headers: incoming.headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    onward.on("error", () => incoming.socket.destroy());
    incoming.pipe(onward);
  }

  async function close(): Promise<void> {
    for (const socket of sockets) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }
}
