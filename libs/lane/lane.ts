import { EventEmitter } from "node:events";
import { MessageChannel, type MessagePort } from "node:worker_threads";
import { pause } from "@berth/retry";
import { Piscina } from "piscina";
import { type FromLane, type LaneAssignment, unpackError } from "./wire.ts";

/** Rejects every call that was under way when a lane's thread died. The work may be sent again: a new thread is coming up. */
export class LaneLostError extends Error {
  override readonly name = "LaneLostError";
  readonly code = "BERTH_LANE_LOST";
}

/** The part of a logger that a lane needs (pino fits). */
export interface LaneLog {
  warn(fields: object, message: string): void;
}

export interface LaneOptions {
  /** Shown in logs and in `berth doctor`: "docker", "logs", "vault" … */
  name: string;
  /** The thread's entry: a module whose default export is made by `serveLane`. */
  entry: URL;
  /** Given to the thread at each start; must survive structured clone. */
  start: unknown;
  log: LaneLog;
  /**
   * Heap limit of the thread in MiB. A thread that grows over it dies and is replaced. One that meets the limit inside a single
   * native call (JSON.parse of something huge) ends the whole process instead, so lanes bound what they parse as well.
   */
  maxHeapMb?: number;
}

/**
 * `restarted`: the thread died and a new one is ready; its owner must tell it again what to watch. What a listener calls at once
 * reaches the thread before all calls that waited for it. Others come from the thread.
 */
export type LaneEvents = { restarted: [] } & Record<string, unknown[]>;

const RESTART_DELAY_MS = 100;

/**
 * One long-lived worker thread with typed calls into it and events out of it: a one-thread piscina pool that is given a
 * MessagePort in a single `run()`. (A piscina run per call costs 20–80 µs and cannot stream.)
 *
 * INVARIANTS: at most one thread lives at a time; a call settles exactly once, and is rejected with {@link LaneLostError} when
 * its thread dies; calls made while no thread is ready wait for the next one; after `close` no thread is started.
 */
export class Lane<Methods extends object> extends EventEmitter {
  readonly name: string;
  readonly #options: LaneOptions;
  readonly #pool: Piscina;
  readonly #pending = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #port: MessagePort | undefined;
  #ready: Promise<void>;
  #announceReady: () => void = () => {};
  #nextId = 1;
  #closing = false;
  #restarts = 0;
  readonly #ended: Promise<void>;

  constructor(options: LaneOptions) {
    super();
    this.name = options.name;
    this.#options = options;
    this.#pool = new Piscina({
      filename: options.entry.href,
      minThreads: 1,
      maxThreads: 1,
      ...(options.maxHeapMb === undefined ? {} : { resourceLimits: { maxOldGenerationSizeMb: options.maxHeapMb } }),
    });
    // A worker that runs out of memory surfaces here as well as in run(); without a listener it would end the daemon.
    this.#pool.on("error", () => {});
    this.#ready = this.#awaitReady();
    this.#ended = this.#keepAlive();
  }

  /** How often the thread had to be replaced since the lane was opened. */
  get restarts(): number {
    return this.#restarts;
  }

  /** True while a thread is up and answering. */
  get up(): boolean {
    return this.#port !== undefined;
  }

  /** Calls `method` in the thread. Rejects with what the method threw (class name, message and plain fields are kept). */
  async call<Name extends keyof Methods & string>(
    method: Name,
    argument: Methods[Name] extends (argument: infer Argument, ...rest: never[]) => unknown ? Argument : never,
    signal?: AbortSignal,
  ): Promise<Methods[Name] extends (...all: never[]) => infer Result ? Awaited<Result> : never> {
    signal?.throwIfAborted();
    if (this.#port === undefined) await untilAborted(this.#ready, signal);
    signal?.throwIfAborted();
    if (this.#closing || this.#port === undefined) throw new LaneLostError(`the ${this.name} lane is closed`);
    const port = this.#port;
    const id = this.#nextId++;
    const abort = (): void => port.postMessage({ kind: "abort", id });
    signal?.addEventListener("abort", abort, { once: true });
    try {
      return (await new Promise<unknown>((resolve, reject) => {
        this.#pending.set(id, { resolve, reject });
        port.postMessage({ kind: "call", id, method, argument });
      })) as never;
    } finally {
      this.#pending.delete(id);
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Ends the thread after its clean-up. Calls under way are rejected. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#announceReady();
    this.#port?.postMessage({ kind: "close" });
    await this.#ended;
    await this.#pool.destroy();
  }

  #awaitReady(): Promise<void> {
    return new Promise((resolve) => {
      this.#announceReady = resolve;
    });
  }

  async #keepAlive(): Promise<void> {
    while (!this.#closing) {
      const { port1, port2 } = new MessageChannel();
      port1.on("message", (message: FromLane) => this.#receive(port1, message));
      try {
        await this.#pool.run({ port: port2, start: this.#options.start } satisfies LaneAssignment, { transferList: [port2] });
      } catch (error) {
        if (!this.#closing) this.#options.log.warn({ lane: this.name, err: error }, "a worker thread died and is being replaced");
      }
      port1.close();
      this.#loseThread();
      if (!this.#closing) {
        this.#restarts += 1;
        await pause(RESTART_DELAY_MS);
      }
    }
  }

  #loseThread(): void {
    if (this.#port !== undefined && !this.#closing) this.#ready = this.#awaitReady();
    this.#port = undefined;
    for (const { reject } of this.#pending.values()) reject(new LaneLostError(`the ${this.name} lane's thread died before it answered`));
    this.#pending.clear();
  }

  #receive(port: MessagePort, message: FromLane): void {
    switch (message.kind) {
      case "ready":
        this.#port = port;
        if (this.#closing) port.postMessage({ kind: "close" });
        if (this.#restarts > 0) this.emit("restarted");
        this.#announceReady();
        break;
      case "result":
        this.#pending.get(message.id)?.resolve(message.value);
        break;
      case "failure":
        this.#pending.get(message.id)?.reject(unpackError(message.error));
        break;
      case "event":
        this.emit(message.name, message.detail);
        break;
    }
  }
}

/** Waits for `ready`, but no longer than until the signal aborts: a thread that does not start must hold nobody. */
async function untilAborted(ready: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return await ready;
  const { promise, resolve } = Promise.withResolvers<void>();
  const give = (): void => resolve();
  signal.addEventListener("abort", give, { once: true });
  try {
    await Promise.race([ready, promise]);
  } finally {
    signal.removeEventListener("abort", give);
  }
}
