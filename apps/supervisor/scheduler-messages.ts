import { z } from "zod";
import { summarize } from "./admin/task-views.ts";
import type { Executor } from "./executor/executor.ts";
import type { TaskLog } from "./task/ports.ts";

/**
 * What a scheduler may ask by a MESSAGE, as JSON: `{"berth":"ping"}`, `{"berth":"inspect"}` or
 * `{"berth":"drain","gracePeriodMs":5000}`. The answer is a MESSAGE with the same `berth` and `id`. Anything else belongs to
 * somebody else and is ignored.
 */
const SchedulerMessage = z.object({
  berth: z.enum(["ping", "inspect", "drain"]),
  id: z.union([z.string().max(256), z.number()]).optional(),
  taskId: z.string().optional(),
  gracePeriodMs: z.number().min(0).optional(),
});

/** Answers one MESSAGE of the executor's scheduler; `data` is base64. */
export function answerSchedulerMessage(executor: Executor, data: string, parts: { version: string; log: TaskLog }): void {
  const message = parse(data);
  if (message === undefined) {
    parts.log.info({ executorId: executor.hello.executorId, bytes: data.length }, "a scheduler's message is not for Berth and is ignored");
    return;
  }
  const tasks = [...executor.tasks.values()].filter((task) => message.taskId === undefined || task.identity.taskId === message.taskId);
  if (message.berth === "drain")
    for (const task of tasks) task.stop("operator", "drained on request of the framework", message.gracePeriodMs);
  const answer = {
    berth: message.berth,
    ...(message.id === undefined ? {} : { id: message.id }),
    version: parts.version,
    ...(message.berth === "ping" ? {} : { tasks: tasks.map((task) => summarize(task.describe())) }),
  };
  executor.send({ type: "message", data: Buffer.from(JSON.stringify(answer)).toString("base64") });
}

function parse(data: string): z.infer<typeof SchedulerMessage> | undefined {
  try {
    return SchedulerMessage.safeParse(JSON.parse(Buffer.from(data, "base64").toString("utf8"))).data;
  } catch {
    return undefined;
  }
}
