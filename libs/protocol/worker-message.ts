/**
 * What a worker may say, as a schema: the supervisor's end parses every message with it before anything looks at it. Unknown
 * fields are dropped, so that a newer worker may say more.
 */
import { isTerminal, type TaskState } from "@berth/mesos";
import { z } from "zod";
import type { WorkerMessage } from "./messages.ts";

/** Thrown for a message that does not fit the protocol; its text names the field and is fit for a log line. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
}

const id = z.string().min(1).max(4096);
const milliseconds = z.number().min(0);
const text = z.string();

const state = z.custom<TaskState>(
  (value) => typeof value === "string" && (isTerminal(value) || ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING"].includes(value)),
  "expected a task state",
);

const wanted = z.object({
  kind: z.enum(["kill", "shutdown"]),
  gracePeriodMs: milliseconds.optional(),
  receivedAt: z.number(),
  cause: z.enum(["framework", "agent", "signal"]),
});

/** More than there are hierarchies. */
const MAX_CGROUPS = 16;
const child = z.object({ pid: z.number().int().positive(), startTime: text, cgroups: z.array(id).max(MAX_CGROUPS).optional() });
const exit = z.object({
  exitCode: z.number().int().optional(),
  signal: z.number().int().optional(),
  at: z.number(),
  oomKilled: z.boolean().optional(),
});

const bytes = z.number().int().min(0);

const record = z.object({
  taskId: id,
  taskInfo: z.looseObject({ task_id: z.object({ value: text }) }),
  launchedAt: z.number(),
  group: z.array(id).optional(),
  lastStatus: z
    .object({ state, message: text.optional(), reason: text.optional(), healthy: z.boolean().optional(), at: z.number() })
    .optional(),
  wanted: wanted.optional(),
  child: child.optional(),
  exit: exit.optional(),
  output: z.object({ stdout: bytes, stderr: bytes }).optional(),
  terminalAcknowledged: z.boolean().optional(),
  checkpoint: z.object({ sequence: z.number().int().min(0), data: z.unknown() }).optional(),
});

const descriptor = z.object({ kind: z.enum(["file", "pipe", "other"]), device: text, inode: text });

const hello = z.object({
  type: z.literal("hello"),
  protocol: z.array(z.number().int()),
  version: text,
  pid: z.number().int().positive(),
  startTime: text.optional(),
  pidNamespace: text.optional(),
  frameworkId: id,
  executorId: id,
  containerId: id,
  agentId: text,
  agentHostname: text,
  agentEndpoint: text,
  frameworkName: text,
  frameworkUser: text.optional(),
  frameworkCapabilities: z.array(text),
  sandbox: text,
  stdout: descriptor,
  stderr: descriptor,
  environment: z.record(text, text),
  args: z.array(text),
  shutdownGracePeriodMs: milliseconds,
  tellsWritten: z.boolean().optional(),
  tasks: z.array(record),
});

const message = z.discriminatedUnion("type", [
  hello,
  z.object({ type: z.literal("launch"), tasks: z.array(record).min(1) }),
  z.object({ type: z.literal("kill"), taskId: id, wanted }),
  z.object({ type: z.literal("shutdown"), wanted }),
  z.object({ type: z.literal("message"), data: text }),
  z.object({ type: z.literal("spawned"), taskId: id, child }),
  z.object({ type: z.literal("spawnFailed"), taskId: id, error: text }),
  z.object({ type: z.literal("exited"), taskId: id, exit }),
  z.object({ type: z.literal("held"), taskId: id, sequence: z.number().int().min(0) }),
  z.object({ type: z.literal("acknowledged"), taskId: id, uuid: text, state }),
  z.object({ type: z.literal("output"), taskId: id, stream: z.enum(["stdout", "stderr"]), data: z.base64(), offset: bytes.optional() }),
  z.object({ type: z.literal("written"), sequence: z.number().int().min(0) }),
]);

/**
 * Parses one frame's bytes into a message. Throws a {@link ProtocolError} that names the wrong fields; their values are not
 * repeated, because a message may hold secrets.
 */
export function parseWorkerMessage(frame: Uint8Array): WorkerMessage {
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(frame));
  } catch {
    throw new ProtocolError(`a frame of ${frame.length} bytes is not JSON`);
  }
  const result = message.safeParse(json);
  if (result.success) return result.data as WorkerMessage;
  const mistakes = result.error.issues.map((issue) => `${issue.path.join(".") || "message"}: ${issue.message}`);
  throw new ProtocolError(`a message does not fit the protocol: ${mistakes.slice(0, 5).join("; ")}`);
}
