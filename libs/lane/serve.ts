import type { MessagePort, Transferable } from "node:worker_threads";
import { type FromLane, type LaneAssignment, packError, type ToLane } from "./wire.ts";

/** The methods that a lane's thread offers. Each takes one structured-cloneable argument; its signal aborts with the caller's. */
// biome-ignore lint/suspicious/noExplicitAny: method arguments are typed by the lane's own interface, this is only their common bound
export type LaneHandlers = Record<string, (argument: any, signal: AbortSignal) => unknown>;

/** What a lane's thread is given at its start: how to speak up unasked, and what to do when it is told to end. */
export interface LaneStart {
  emit(name: string, detail: unknown, transfer?: Transferable[]): void;
  onClose(cleanup: () => void | Promise<void>): void;
}

/**
 * Makes a thread's entry function out of a factory of its methods: `export default serveLane(async (start, lane) => ({…}))`.
 * The function runs for as long as the lane is open; it is the one long `run()` of a one-thread piscina pool.
 */
export function serveLane<Start>(create: (start: Start, lane: LaneStart) => LaneHandlers | Promise<LaneHandlers>) {
  return async function lane({ port, start }: LaneAssignment): Promise<void> {
    const cleanups: Array<() => void | Promise<void>> = [];
    const send = (message: FromLane, transfer?: Transferable[]): void => port.postMessage(message, transfer);
    const handlers = await create(start as Start, {
      emit: (name, detail, transfer) => send({ kind: "event", name, detail }, transfer),
      onClose: (cleanup) => cleanups.push(cleanup),
    });
    const closed = answer(port, handlers, send);
    send({ kind: "ready" });
    await closed;
    for (const cleanup of cleanups) await cleanup();
    port.close();
  };
}

function answer(port: MessagePort, handlers: LaneHandlers, send: (message: FromLane) => void): Promise<void> {
  const running = new Map<number, AbortController>();
  return new Promise((resolve) => {
    port.on("message", (message: ToLane) => {
      if (message.kind === "close") return resolve();
      if (message.kind === "abort") return running.get(message.id)?.abort();
      void run(message.id, message.method, message.argument);
    });
    port.on("close", resolve);
  });

  async function run(id: number, method: string, argument: unknown): Promise<void> {
    const controller = new AbortController();
    running.set(id, controller);
    try {
      const handler = handlers[method];
      if (handler === undefined) throw new Error(`this lane has no method ${method}`);
      send({ kind: "result", id, value: await handler(argument, controller.signal) });
    } catch (error) {
      send({ kind: "failure", id, error: packError(error) });
    } finally {
      running.delete(id);
    }
  }
}
