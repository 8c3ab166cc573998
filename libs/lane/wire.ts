import type { MessagePort } from "node:worker_threads";

/** What `Piscina.run` hands to a lane's thread: its end of the channel and the lane's own start argument. */
export interface LaneAssignment {
  port: MessagePort;
  start: unknown;
}

/** Main thread → lane thread. */
export type ToLane =
  | { kind: "call"; id: number; method: string; argument: unknown }
  /** The caller gave up; the method's signal aborts, an answer is still sent. */
  | { kind: "abort"; id: number }
  | { kind: "close" };

/** Lane thread → main thread. */
export type FromLane =
  | { kind: "ready" }
  | { kind: "result"; id: number; value: unknown }
  | { kind: "failure"; id: number; error: ThrownInLane }
  | { kind: "event"; name: string; detail: unknown };

/**
 * An error on its way between threads. Structured clone keeps an Error's message and stack but drops its class and own
 * fields, and those fields (`code`, `reason`, `statusCode` …) are what a caller branches on.
 */
export interface ThrownInLane {
  message: string;
  name: string;
  stack?: string;
  fields: Record<string, unknown>;
}

export function packError(error: unknown): ThrownInLane {
  if (!(error instanceof Error)) return { message: String(error), name: "Error", fields: {} };
  const fields: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(error)) {
    if (key !== "name" && (typeof value === "string" || typeof value === "number" || typeof value === "boolean")) fields[key] = value;
  }
  return { message: error.message, name: error.name, fields, ...(error.stack === undefined ? {} : { stack: error.stack }) };
}

export function unpackError(thrown: ThrownInLane): Error {
  const error = new Error(thrown.message);
  error.name = thrown.name;
  if (thrown.stack !== undefined) error.stack = thrown.stack;
  return Object.assign(error, thrown.fields);
}
