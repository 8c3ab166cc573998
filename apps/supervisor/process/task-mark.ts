import type { TaskIdentity } from "@berth/runtime";
import { z } from "zod";
import type { ProcessIdentity } from "../executor/process-life.ts";

/** The variable that every process of a command task has in its environment, unless it cleared it. */
export const TASK_MARK = "BERTH_TASK";

/** Whose process it is, and which worker has to look after it. */
export interface TaskMark extends TaskIdentity {
  worker: ProcessIdentity;
}

const Encoded = z.tuple([z.string(), z.string(), z.string(), z.string(), z.number(), z.string(), z.string()]);

/** One line of JSON: unique per run of a task, safe in any environment. */
export function taskMark({ frameworkId, executorId, containerId, taskId }: TaskIdentity, worker: ProcessIdentity): string {
  const encoded: z.infer<typeof Encoded> = [
    frameworkId,
    executorId,
    containerId,
    taskId,
    worker.pid,
    worker.startTime ?? "",
    worker.pidNamespace ?? "",
  ];
  return JSON.stringify(encoded);
}

/** Reads a mark back; undefined for a variable that somebody else set. */
export function parseTaskMark(text: string): TaskMark | undefined {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return undefined;
  }
  const result = Encoded.safeParse(json);
  if (!result.success) return undefined;
  const [frameworkId, executorId, containerId, taskId, pid, startTime, pidNamespace] = result.data;
  const worker = { pid, ...(startTime === "" ? {} : { startTime }), ...(pidNamespace === "" ? {} : { pidNamespace }) };
  return { frameworkId, executorId, containerId, taskId, worker };
}
