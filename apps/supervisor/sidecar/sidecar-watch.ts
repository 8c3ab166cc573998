import type { TaskInfo } from "@berth/mesos/task-info";
import type { TaskIdentity } from "@berth/runtime";
import type { SidecarLane, Verdict } from "@berth/sidecar";
import type { TaskOptions } from "../settings.ts";
import type { Verdicts, Watch, WatchedTask } from "../task/ports.ts";
import { taskKey } from "../task-key.ts";
import { isInSidecar, serviceId } from "./service.ts";

interface Watched {
  verdicts: Verdicts;
  reportsHealth: boolean;
  known: boolean;
}

/** Sidecar's verdicts on the tasks of this host: what the lane tells, given to the task that it concerns. */
export class SidecarWatch {
  readonly #lane: SidecarLane;
  readonly #watched = new Map<string, Watched>();

  constructor(lane: SidecarLane) {
    this.#lane = lane;
    lane.on("verdict", (verdict) => this.#tell(verdict));
  }

  /** Whether Sidecar has been seen to know the task. */
  knows(identity: TaskIdentity): boolean {
    return this.#watched.get(taskKey(identity))?.known === true;
  }

  /** The watch of one task with these options, on a host of that name. */
  forTask(options: TaskOptions, hostKey: string): Watch {
    return {
      name: "Sidecar",
      decidesHealth: () => false,
      begin: (watched, verdicts) => this.#begin(watched, verdicts, options, hostKey),
    };
  }

  #begin({ identity, task, observed }: WatchedTask, verdicts: Verdicts, { settings }: TaskOptions, hostKey: string): () => void {
    if (!isInSidecar(task) || hostKey === "") return () => {};
    const key = taskKey(identity);
    this.#watched.set(key, { verdicts, reportsHealth: reportsHealth(task), known: false });
    void this.#lane
      .watch({
        taskKey: key,
        serviceId: serviceId(observed.id),
        hostKey,
        backoffMs: settings.sidecarBackoff,
        pollIntervalMs: settings.sidecarPollInterval,
        maxFails: settings.sidecarMaxFails + (settings.sidecarExtraFail ? 1 : 0),
        startedAt: observed.startedAt,
      })
      .catch(() => {}); // The lane is closing; its own log has told of anything else.
    return () => {
      this.#watched.delete(key);
      void this.#lane.unwatch(key).catch(() => {});
    };
  }

  #tell(verdict: Verdict): void {
    const entry = this.#watched.get(verdict.taskKey);
    if (entry === undefined) return;
    if (verdict.status !== undefined) entry.known = true;
    if (verdict.fatal) return entry.verdicts.stop("sidecar-unhealthy", verdict.message);
    if (entry.reportsHealth && verdict.status !== undefined) {
      entry.verdicts.health(verdict.healthy, { message: verdict.message, reason: "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED" });
    }
  }
}

/** A task with a health check of its own has its health from there; two sources would contradict each other. */
function reportsHealth(task: TaskInfo): boolean {
  return task.health_check === undefined;
}
