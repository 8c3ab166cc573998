import type { ContainerEvent, DockerEngine } from "@berth/runtime/docker/engine";
import type { Executors } from "../executor/executors.ts";
import type { TaskLog } from "../task/ports.ts";
import { identityOf } from "./labels.ts";

/** Events after which a task's container looks different. */
const CHANGES: ReadonlySet<ContainerEvent["action"]> = new Set(["start", "die", "oom", "destroy", "pause", "unpause"]);

/** Lets the engine's news reach the tasks that they concern; after a gap in the stream every task looks for itself. */
export function connectEngine(engine: DockerEngine, executors: Executors, log: TaskLog): void {
  engine.on("container", (event) => {
    if (!CHANGES.has(event.action)) return;
    const identity = identityOf(event.attributes);
    if (identity !== undefined) executors.find(identity)?.observeAgain();
  });
  engine.on("resync", ({ reason }) => {
    log.info({ reason }, "Docker events may have been missed; every task is inspected again");
    for (const task of executors.tasks()) if (task.runtime.kind === "docker") task.observeAgain();
  });
  engine.on("up", () => log.info({ engine: engine.url }, "dockerd answers"));
  engine.on("down", ({ reason, since }) =>
    log.warn({ engine: engine.url, reason, since: new Date(since).toISOString() }, "dockerd does not answer; tasks run on"),
  );
}
