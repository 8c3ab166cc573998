/**
 * Reads an executor's call as the agent does: JSON, then conversion to the protobuf, then validation. Each stage refuses with the
 * agent's exact words. Sources: stout/protobuf.hpp (conversion), common/validation.cpp; texts as recorded from a real agent.
 */
import type { Id } from "../executor-api.ts";

type Json = Record<string, unknown>;

/** A status that passed validation; unknown fields are still in it. */
export interface CallStatus {
  task_id: Id;
  state: string;
  source: "SOURCE_EXECUTOR";
  uuid: string;
  agent_id?: Id;
  executor_id?: Id;
  [field: string]: unknown;
}

/** A call that passed validation. Unknown fields were ignored. */
export type ReceivedCall = { executorId: string; frameworkId: string } & (
  | { type: "SUBSCRIBE"; unacknowledgedTasks: Json[]; unacknowledgedUpdates: CallStatus[] }
  | { type: "UPDATE"; status: CallStatus }
  | { type: "MESSAGE"; data: string }
  | { type: "HEARTBEAT" | "UNKNOWN" }
);

/** A call that the agent answers with 400 and this text. */
export class BadCall extends Error {
  override readonly name = "BadCall";
}

const CALL_TYPES = new Set(["UNKNOWN", "SUBSCRIBE", "UPDATE", "MESSAGE", "HEARTBEAT"]);
const TASK_STATES = new Set(
  "STAGING STARTING RUNNING KILLING FINISHED FAILED KILLED ERROR LOST DROPPED UNREACHABLE GONE GONE_BY_OPERATOR UNKNOWN"
    .split(" ")
    .map((name) => `TASK_${name}`),
);

/** Throws {@link BadCall}. */
export function readCall(body: string): ReceivedCall {
  const json = parseBody(body);
  checkConversion(json);
  return validate(json);
}

function parseBody(body: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch (error) {
    const position = /at position (\d+)/.exec((error as Error).message)?.[1];
    const before = position === undefined ? body : body.slice(0, Number(position));
    const near = position === undefined ? "" : (body.slice(Number(position)).split("\n", 1)[0] ?? "");
    throw new BadCall(`Failed to parse body into JSON: syntax error at line ${before.split("\n").length} near: ${near}`);
  }
  if (!isObject(value)) throw new BadCall("Failed to convert JSON into Call protobuf: Expecting a JSON object");
  return value;
}

/** Values that cannot be converted first, then required fields that are missing: the order of the agent's parser. */
function checkConversion(call: Json): void {
  const update = object(call, "update");
  const subscribe = object(call, "subscribe");
  const statuses = [object(update, "status"), ...list(subscribe, "unacknowledged_updates").map((entry) => object(entry, "status"))];
  for (const status of statuses) {
    if (typeof status?.state === "string" && !TASK_STATES.has(status.state)) refuse(`Failed to find enum for '${status.state}'`);
    checkBase64(status, "data");
    checkBase64(status, "uuid");
  }
  checkBase64(object(call, "message"), "data");
  const missing: string[] = [];
  requireId(call, "executor_id", "", missing);
  requireId(call, "framework_id", "", missing);
  for (const [index, task] of list(subscribe, "unacknowledged_tasks").entries()) {
    const path = `subscribe.unacknowledged_tasks[${index}].`;
    if (typeof task.name !== "string") missing.push(`${path}name`);
    requireId(task, "task_id", path, missing);
    requireId(task, "agent_id", path, missing);
  }
  for (const [index, entry] of list(subscribe, "unacknowledged_updates").entries()) {
    requireStatus(entry, `subscribe.unacknowledged_updates[${index}].`, missing);
  }
  if (update !== undefined) requireStatus(update, "update.", missing);
  const message = object(call, "message");
  if (message !== undefined && typeof message.data !== "string") missing.push("message.data");
  if (missing.length > 0) refuse(`Missing required fields: ${missing.join(", ")}`);
}

function requireStatus(parent: Json, path: string, missing: string[]): void {
  const status = object(parent, "status");
  if (status === undefined) {
    missing.push(`${path}status`);
    return;
  }
  requireId(status, "task_id", `${path}status.`, missing);
  if (typeof status.state !== "string") missing.push(`${path}status.state`);
}

function requireId(parent: Json, name: string, path: string, missing: string[]): void {
  const id = object(parent, name);
  if (id === undefined) missing.push(path + name);
  else if (typeof id.value !== "string") missing.push(`${path}${name}.value`);
}

function checkBase64(parent: Json | undefined, name: string): void {
  const value = parent?.[name];
  if (typeof value !== "string") return;
  const bad = /[^A-Za-z0-9+/=]/.exec(value)?.[0];
  if (bad !== undefined) refuse(`Failed to base64 decode bytes field '${name}': Invalid character '${bad}'`);
}

function validate(call: Json): ReceivedCall {
  const head = { executorId: idOf(call, "executor_id"), frameworkId: idOf(call, "framework_id") };
  const type = call.type;
  if (typeof type !== "string" || !CALL_TYPES.has(type)) invalid("Expecting 'type' to be present");
  switch (type) {
    case "SUBSCRIBE": {
      const subscribe = object(call, "subscribe") ?? invalid("Expecting 'subscribe' to be present");
      const updates = list(subscribe, "unacknowledged_updates").map((entry) => entry.status as CallStatus);
      return { ...head, type, unacknowledgedTasks: list(subscribe, "unacknowledged_tasks"), unacknowledgedUpdates: updates };
    }
    case "UPDATE": {
      const update = object(call, "update") ?? invalid("Expecting 'update' to be present");
      const status = update.status as Json;
      validateStatus(status, head);
      return { ...head, type, status: status as unknown as CallStatus };
    }
    case "MESSAGE": {
      const message = object(call, "message") ?? invalid("Expecting 'message' to be present");
      return { ...head, type, data: message.data as string };
    }
    default:
      return { ...head, type: type as "HEARTBEAT" | "UNKNOWN" };
  }
}

function validateStatus(status: Json, head: { executorId: string; frameworkId: string }): void {
  const who = `from executor ${head.executorId} of framework ${head.frameworkId}`;
  if (typeof status.uuid !== "string") invalid("Expecting 'uuid' to be present");
  if (!isUuid(Buffer.from(status.uuid, "base64"))) invalid("Not a valid UUID");
  const executorId = object(status, "executor_id")?.value;
  if (executorId !== undefined && executorId !== head.executorId) {
    invalid(`ExecutorID in Call: ${head.executorId} does not match ExecutorID in TaskStatus: ${executorId}`);
  }
  if (status.source !== "SOURCE_EXECUTOR") invalid(`Received Call ${who} with invalid source, expecting 'SOURCE_EXECUTOR'`);
  if (status.state === "TASK_STAGING") invalid(`Received TASK_STAGING ${who} which is not allowed`);
  const check = object(status, "check_status");
  if (check === undefined) return;
  const type = check.type;
  if (type !== "COMMAND" && type !== "HTTP" && type !== "TCP") invalid("CheckStatusInfo must specify 'type'");
  const member = type.toLowerCase();
  if (object(check, member) === undefined) invalid(`Expecting '${member}' to be set for ${type} check's status`);
}

/** 16 bytes of a UUID of version 1 to 5; the agent's library knows no later one. */
function isUuid(bytes: Buffer): boolean {
  if (bytes.length !== 16) return false;
  const version = (bytes[6] as number) >> 4;
  return version >= 1 && version <= 5 && (bytes[8] as number) >> 6 === 2;
}

function refuse(reason: string): never {
  throw new BadCall(`Failed to convert JSON into Call protobuf: ${reason}`);
}

function invalid(reason: string): never {
  throw new BadCall(`Failed to validate Executor::Call: ${reason}`);
}

function idOf(call: Json, name: string): string {
  return (call[name] as Id).value;
}

function object(parent: Json | undefined, name: string): Json | undefined {
  const value = parent?.[name];
  return isObject(value) ? value : undefined;
}

function list(parent: Json | undefined, name: string): Json[] {
  const value = parent?.[name];
  return Array.isArray(value) ? value.filter(isObject) : [];
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
