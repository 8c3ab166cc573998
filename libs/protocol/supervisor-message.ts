import type { SupervisorMessage } from "./messages.ts";

type Check = (value: unknown) => boolean;

const isText: Check = (value) => typeof value === "string";
const isNumber: Check = (value) => typeof value === "number" && Number.isFinite(value);
const isBoolean: Check = (value) => typeof value === "boolean";
const isObject: Check = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isTextList: Check = (value) => Array.isArray(value) && value.every(isText);
const isTextMap: Check = (value) => isObject(value) && Object.values(value as object).every(isText);
const isStream: Check = (value) => value === "stdout" || value === "stderr";
const isUpdate: Check = (value) => isObject(value) && isText((value as { state?: unknown }).state);
const isAnything: Check = () => true;

/** The fields of each message that must be there. */
const FIELDS: Record<SupervisorMessage["type"], Record<string, Check>> = {
  welcome: { protocol: isNumber, version: isText },
  refuse: { reason: isText, retry: isBoolean },
  update: { taskId: isText, update: isUpdate },
  checkpoint: { taskId: isText, sequence: isNumber, data: isAnything },
  spawn: { taskId: isText, argv: isTextList, environment: isTextMap, directory: isText, output: isText },
  signal: { taskId: isText, signal: isNumber },
  message: { data: isText },
  title: { text: isText },
  forget: { taskId: isText },
  output: { stream: isStream, data: isText },
  taken: { taskId: isText, stdout: isNumber, stderr: isNumber },
  exit: { code: isNumber },
};

/**
 * Parses what a supervisor says: small and without a schema library, because every worker holds it in memory. Returns null for
 * a type that this build does not know, so that a newer supervisor may say more. Throws an Error that names the wrong field.
 */
export function parseSupervisorMessage(json: string): SupervisorMessage | null {
  let message: unknown;
  try {
    message = JSON.parse(json);
  } catch {
    throw new Error("a frame is not JSON");
  }
  const type = isObject(message) ? (message as { type?: unknown }).type : undefined;
  if (typeof type !== "string") throw new Error("a message without a type");
  if (!Object.hasOwn(FIELDS, type)) return null;
  for (const [field, check] of Object.entries(FIELDS[type as SupervisorMessage["type"]])) {
    if (!check((message as Record<string, unknown>)[field])) throw new Error(`a ${type} message with a wrong ${field}`);
  }
  return message as SupervisorMessage;
}
