import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { tempDir } from "./temp-dir.ts";

/** A unix socket in front of another one that counts who connects. */
export interface SocketProxy extends AsyncDisposable {
  /** `unix:///…`, fit for DOCKER_HOST. */
  host: string;
  /** The same on `tcp://127.0.0.1:port`. */
  tcpHost: string;
  /** Connections that are open now, and the most there have been at once since the last {@link SocketProxy.resetPeak}. */
  open(): number;
  peak(): number;
  /** Connections ever made. */
  total(): number;
  resetPeak(): void;
  /** First lines of the requests that were sent first on each connection ("GET /events?… HTTP/1.1"), still open ones only. */
  openRequests(): string[];
  /** From now on bytes are held back in both directions, as by a dockerd that hangs; `false` lets them flow again. */
  freeze(frozen: boolean): void;
  /** The connections that are open now bring nothing any more; new ones work. */
  stall(): void;
  /** Cuts every connection; new ones are accepted. */
  cut(): void;
  stop(): Promise<void>;
}

/** Starts a counting proxy before the unix socket that `host` names. */
export async function startSocketProxy(host: string): Promise<SocketProxy> {
  const target = host.replace(/^unix:\/\//, "");
  const folder = await tempDir("proxy");
  const path = join(folder.path, "p.sock");
  const pairs = new Map<Socket, { upstream: Socket; request: string }>();
  let peak = 0;
  let total = 0;
  let frozen = false;

  function accept(client: Socket): void {
    const upstream = connect(target);
    const pair = { upstream, request: "" };
    pairs.set(client, pair);
    total += 1;
    peak = Math.max(peak, pairs.size);
    client.once("data", (chunk: Buffer) => {
      pair.request = chunk.toString("latin1").split("\r\n", 1)[0] ?? "";
    });
    client.pipe(upstream);
    upstream.pipe(client);
    if (frozen) hold(client, upstream);
    const end = (): void => {
      client.destroy();
      upstream.destroy();
      pairs.delete(client);
    };
    for (const socket of [client, upstream]) socket.on("error", end).on("close", end);
  }

  function hold(...sockets: Socket[]): void {
    for (const socket of sockets) socket.unpipe().pause();
  }

  function freeze(value: boolean): void {
    frozen = value;
    for (const [client, { upstream }] of pairs) {
      if (frozen) hold(client, upstream);
      else {
        client.pipe(upstream);
        upstream.pipe(client);
      }
    }
  }

  function stall(): void {
    for (const [client, { upstream }] of pairs) hold(client, upstream);
  }

  function cut(): void {
    for (const client of pairs.keys()) client.destroy();
  }

  const servers = [createServer(accept), createServer(accept)] as const;
  await Promise.all([listen(servers[0], path), listen(servers[1], { port: 0, host: "127.0.0.1" })]);

  async function stop(): Promise<void> {
    const closed = Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    cut();
    await closed;
    await folder.remove();
  }

  return {
    host: `unix://${path}`,
    tcpHost: `tcp://127.0.0.1:${(servers[1].address() as AddressInfo).port}`,
    open: () => pairs.size,
    peak: () => peak,
    total: () => total,
    resetPeak: () => {
      peak = pairs.size;
    },
    openRequests: () => [...pairs.values()].map(({ request }) => request),
    freeze,
    stall,
    cut,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

function listen(server: Server, where: string | { port: number; host: string }): Promise<void> {
  return new Promise((resolve, reject) => server.once("error", reject).listen(where, resolve));
}
