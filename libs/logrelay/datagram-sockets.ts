import { type DatagramSocket, NativeDatagramSocket, type SocketAddress } from "./datagram-socket.ts";
import { type Libc, loadLibc } from "./libc.ts";
import { NodeDatagramSocket } from "./node-datagram-socket.ts";
import type { ThreadLogLine } from "./types.ts";

/** Opens datagram sockets: by the C library, or by Node where that cannot be called, which is said once. */
export class DatagramSockets {
  readonly #log: (line: ThreadLogLine) => void;
  readonly #load: () => Promise<Libc>;
  #libc: Promise<Libc | Error> | undefined;

  constructor(log: (line: ThreadLogLine) => void, load = loadLibc) {
    this.#log = log;
    this.#load = load;
  }

  /** Rejects with the reason when there can be no such socket now; the caller tries again later. */
  async open(to: SocketAddress): Promise<DatagramSocket> {
    this.#libc ??= this.#load().catch((error: Error) => this.#failed(error));
    const libc = await this.#libc;
    if (!(libc instanceof Error)) return new NativeDatagramSocket(libc, to);
    if ("path" in to) throw new Error(`Node alone has no unix datagram sockets, and the C library cannot be called: ${libc.message}`);
    return NodeDatagramSocket.open(to);
  }

  #failed(error: Error): Error {
    const fields = { err: { message: error.message } };
    this.#log({ level: "warn", fields, message: "the C library cannot be called: log datagrams cost more, unix sockets get none" });
    return error;
  }
}
