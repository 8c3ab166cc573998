import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { setImmediate } from "node:timers/promises";
import { encodeRecord } from "@berth/recordio";
import { writeAgentJson } from "./json.ts";

/**
 * How records are cut into HTTP chunks. A real agent sends one record per chunk ("whole"), but nothing promises it: "bytewise"
 * sends one byte per chunk, "halves" each record in two chunks, "joined" everything of one turn of the event loop in one chunk.
 */
export type Delivery = "whole" | "bytewise" | "halves" | "joined";

/**
 * How a stream ends: "clean" with a proper last chunk (as when another SUBSCRIBE takes over), "eof" with a closed connection in
 * the middle of the body (as when the agent is killed), "reset" with a TCP reset.
 */
export type StreamEnd = "clean" | "eof" | "reset";

/**
 * The answer to one SUBSCRIBE. INVARIANTS: events arrive in the order of `send`, whatever the delivery; nothing is sent after
 * the end; an event that was not delivered when the stream ended is lost, as with a real agent.
 */
export class EventStream {
  readonly #response: ServerResponse;
  readonly #socket: Socket;
  readonly #delivery: () => Delivery;
  #waiting: Uint8Array[] = [];
  #pumping = false;
  #over = false;

  constructor(response: ServerResponse, socket: Socket, delivery: () => Delivery) {
    this.#response = response;
    this.#socket = socket;
    this.#delivery = delivery;
    response.on("close", () => {
      this.#over = true;
      this.#waiting = [];
    });
    response.removeHeader("Connection");
    response.writeHead(200, { "Content-Type": "application/json" });
    response.flushHeaders();
  }

  get over(): boolean {
    return this.#over;
  }

  /** Any JSON value may be sent: a test may invent events that do not exist. */
  send(event: unknown): void {
    this.sendBytes(encodeRecord(Buffer.from(writeAgentJson(event))));
  }

  /** Sends bytes as they are, framed or not. */
  sendBytes(bytes: Uint8Array): void {
    if (this.#over) return;
    if (!this.#pumping && this.#delivery() === "whole") {
      this.#response.write(bytes);
      return;
    }
    this.#waiting.push(bytes);
    if (!this.#pumping) void this.#pump();
  }

  end(how: StreamEnd): void {
    if (this.#over) return;
    this.#over = true;
    this.#waiting = [];
    if (how === "clean") this.#response.end();
    else if (how === "reset") this.#socket.resetAndDestroy();
    else this.#socket.destroy();
  }

  async #pump(): Promise<void> {
    this.#pumping = true;
    await setImmediate();
    while (this.#waiting.length > 0 && !this.#over) {
      for (const piece of this.#takePieces()) {
        if (this.#over) break;
        if (!this.#response.write(piece)) await this.#drained();
      }
      await setImmediate();
    }
    this.#pumping = false;
  }

  *#takePieces(): Iterable<Uint8Array> {
    const delivery = this.#delivery();
    if (delivery === "joined") {
      const joined = Buffer.concat(this.#waiting);
      this.#waiting = [];
      yield joined;
      return;
    }
    const bytes = this.#waiting.shift() as Uint8Array;
    const size = delivery === "bytewise" ? 1 : delivery === "halves" ? Math.ceil(bytes.length / 2) : bytes.length;
    for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
  }

  async #drained(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const done = (): void => {
      this.#response.off("drain", done).off("close", done);
      resolve();
    };
    this.#response.on("drain", done).on("close", done);
    await promise;
  }
}
