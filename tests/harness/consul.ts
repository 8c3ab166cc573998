import { freePorts } from "./ports.ts";
import { type RunningProcess, startProcess } from "./process.ts";
import { builtServer } from "./tools.ts";

export interface ConsulServer extends AsyncDisposable {
  /** `http://127.0.0.1:port` */
  address: string;
  process: RunningProcess;
  stop(): Promise<void>;
}

/** A Consul agent in development mode, in memory, that listens on loopback only. */
export async function startConsul(options: { httpPort?: number } = {}): Promise<ConsulServer> {
  const [http, lan, wan, rpc] = (await freePorts(4)).map(String);
  const port = options.httpPort === undefined ? String(http) : String(options.httpPort);
  const address = `http://127.0.0.1:${port}`;
  const server = await startProcess({
    name: "consul",
    command: builtServer("consul"),
    args: [
      ...["agent", "-dev", "-bind", "127.0.0.1", "-client", "127.0.0.1", "-node", "berth", "-disable-host-node-id", "-log-level", "warn"],
      ...["-http-port", port, "-dns-port", "-1", "-grpc-port", "-1", "-grpc-tls-port", "-1"],
      ...["-serf-lan-port", String(lan), "-serf-wan-port", String(wan), "-server-port", String(rpc)],
    ],
    // An elected leader is named by its address; before that the answer is an empty string in quotes.
    ready: async () => (await (await fetch(`${address}/v1/status/leader`)).text()).includes(":"),
  });
  return { address, process: server, stop: server.stop, [Symbol.asyncDispose]: server.stop };
}
