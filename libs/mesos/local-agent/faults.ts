import { once } from "node:events";
import { request as httpRequest } from "node:http";
import type { Delivery, StreamEnd } from "./event-stream.ts";
import type { LocalExecutor } from "./executor.ts";

export type CallType = "SUBSCRIBE" | "UPDATE" | "MESSAGE" | "HEARTBEAT";

export interface RestartOptions {
  /**
   * True (default): checkpointed executors are recovered. False: the agent lost its state and knows nobody. "cleanup": recovered
   * executors hear SHUTDOWN. Without checkpointing nothing is ever recovered.
   */
  recover?: boolean | "cleanup";
  /** How long the port refuses connections. Default 0: down and up again at once. */
  downMs?: number;
  /** How long every path is 404 after the start, and then how long every call is 503. Default 20 each. */
  startingMs?: number;
  recoveringMs?: number;
}

/** A stream that somebody else took by subscribing in an executor's name. */
export interface StolenStream {
  status: number;
  close: () => void;
}

/** What the faults act on. */
export interface FaultTarget {
  executors: () => Iterable<LocalExecutor>;
  port: () => number;
  restart: (options: RestartOptions) => Promise<void>;
}

interface Rejection {
  status: number;
  body: string;
  type: CallType | undefined;
}

/** Switches for everything that goes wrong between an agent and its executors. Each acts on all executors unless one is named. */
export class AgentFaults {
  readonly #target: FaultTarget;
  #rejections: Rejection[] = [];
  #unavailableUntil = 0;
  #delivery: Delivery = "whole";
  #held = false;

  constructor(target: FaultTarget) {
    this.#target = target;
  }

  /** Ends the event stream: "clean" with a last chunk, "eof" in the middle of the body, "reset" with a TCP reset. */
  dropStream(how: StreamEnd = "clean", executor?: LocalExecutor): void {
    for (const each of this.#some(executor)) each.dropStream(how);
  }

  /**
   * Kills the agent and starts it again on the same port: connections break, the port refuses for `downMs`, then 404, 503, then
   * the re-registration window in which SUBSCRIBE is taken and UPDATE is 503. Resolves when that is over and latecomers are destroyed.
   */
  restart(options: RestartOptions = {}): Promise<void> {
    return this.#target.restart(options);
  }

  /** Answers every call with 503 for this time. */
  answer503For(milliseconds: number): void {
    this.#unavailableUntil = performance.now() + milliseconds;
  }

  /** Answers the next call (of that type) with this status and text; it has no effect otherwise. Several queue up. */
  rejectNext(status: number, body: string, type?: CallType): void {
    this.#rejections.push({ status, body, type });
  }

  /** While on, updates are taken but not acknowledged; off sends what was held. */
  holdAcknowledgements(on: boolean): void {
    this.#held = on;
    if (on) return;
    for (const executor of this.#target.executors()) executor.releaseAcknowledgements();
  }

  /** How records are cut into chunks from now on. */
  deliver(how: Delivery): void {
    this.#delivery = how;
  }

  /** One byte per chunk, or whole records again. */
  deliverBytewise(on: boolean): void {
    this.#delivery = on ? "bytewise" : "whole";
  }

  /** Sends many events at once. Default: MESSAGEs with the text "flood 0", "flood 1", … */
  flood(count: number, event: (index: number) => unknown = floodMessage, executor?: LocalExecutor): void {
    for (const each of this.#some(executor)) {
      for (let index = 0; index < count; index++) each.send(event(index));
    }
  }

  /** Sends the beginning of a record and breaks the stream in the middle of it. */
  async sendHalfRecord(how: StreamEnd = "eof", executor?: LocalExecutor): Promise<void> {
    for (const each of this.#some(executor)) each.sendBytes(Buffer.from('52\n{"type":"MESSAGE","mess'));
    // Time for the bytes to leave before the connection is destroyed.
    await new Promise((resolve) => setTimeout(resolve, 20));
    this.dropStream(how, executor);
  }

  /** Subscribes in the executor's name from elsewhere: its old stream is ended with a proper last chunk. Without TLS only. */
  async secondStream(executor: LocalExecutor): Promise<StolenStream> {
    const request = httpRequest({
      host: "127.0.0.1",
      port: this.#target.port(),
      path: "/api/v1/executor",
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        Accept: "application/json",
        ...(executor.token === undefined ? {} : { Authorization: `Bearer ${executor.token}` }),
      },
    });
    const ids = { executor_id: { value: executor.executorId }, framework_id: { value: executor.frameworkId } };
    request.end(JSON.stringify({ type: "SUBSCRIBE", ...ids, subscribe: {} }));
    const [response] = (await once(request, "response")) as [import("node:http").IncomingMessage];
    response.on("error", () => {}).resume();
    return { status: response.statusCode ?? 0, close: () => void request.destroy() };
  }

  /** For the agent. */
  get delivery(): Delivery {
    return this.#delivery;
  }

  /** For the agent. */
  get acknowledgementsHeld(): boolean {
    return this.#held;
  }

  /** For the agent: the false answer that is due to a call of this type. */
  take(type: string | undefined): { status: number; body: string } | undefined {
    const index = this.#rejections.findIndex((rejection) => rejection.type === undefined || rejection.type === type);
    if (index !== -1) return this.#rejections.splice(index, 1)[0];
    return performance.now() < this.#unavailableUntil ? { status: 503, body: "Agent has not finished recovery" } : undefined;
  }

  #some(executor: LocalExecutor | undefined): Iterable<LocalExecutor> {
    return executor === undefined ? this.#target.executors() : [executor];
  }
}

function floodMessage(index: number): unknown {
  return { type: "MESSAGE", message: { data: Buffer.from(`flood ${index}`).toString("base64") } };
}
