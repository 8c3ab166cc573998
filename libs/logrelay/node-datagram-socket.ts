import { createSocket, type Socket } from "node:dgram";
import { type DatagramSocket, MAX_DATAGRAM, type SocketAddress } from "./datagram-socket.ts";

/** A UDP socket by Node alone, for hosts where the C library cannot be called. A refusal is told by the next `send`. */
export class NodeDatagramSocket implements DatagramSocket {
  readonly #socket: Socket;
  readonly state = "ready";
  problem: string | undefined;
  refused = 0;
  #failure: string | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("error", (error) => this.#failed(error));
    socket.unref();
  }

  /** Rejects when the address cannot be reached from here. */
  static async open({ family, address, port }: Exclude<SocketAddress, { path: string }>): Promise<NodeDatagramSocket> {
    const socket = createSocket(family === 6 ? "udp6" : "udp4");
    await new Promise<void>((resolve, reject) => {
      const failed = (error: Error): void => {
        socket.close();
        reject(error);
      };
      socket.once("error", failed);
      // A failure is told by its argument, which its type does not know.
      const connected = (error?: Error): void => (error instanceof Error ? failed(error) : resolve());
      socket.connect(port, address, connected);
    });
    socket.removeAllListeners("error");
    return new NodeDatagramSocket(socket);
  }

  send(bytes: Buffer, ends: readonly number[], from: number, to: number): number {
    this.problem = this.#failure;
    this.#failure = undefined;
    for (let frame = from; frame < to; frame++) {
      const start = frame === 0 ? 0 : (ends[frame - 1] as number);
      const length = Math.min((ends[frame] as number) - start, MAX_DATAGRAM);
      this.#socket.send(bytes, start, length, (error) => {
        if (error !== null) this.#failed(error);
      });
    }
    return to - from;
  }

  room(): undefined {}

  close(): void {
    this.#socket.close();
  }

  #failed(error: Error): void {
    this.refused += 1;
    this.#failure = (error as NodeJS.ErrnoException).code ?? error.message;
  }
}
