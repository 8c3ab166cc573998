import type { SidecarView } from "@berth/admin-api";
import type { TaskInfo } from "@berth/mesos/task-info";
import type { TaskIdentity } from "@berth/runtime";
import type { SidecarLane, Verdict, WatchTask } from "@berth/sidecar";
import type { TaskOptions } from "../settings.ts";
import type { Verdicts, Watch, WatchedTask } from "../task/ports.ts";
import { taskKey } from "../task-key.ts";
import { containerAge } from "./container-age.ts";
import { type Keep, type Kept, readKept, SIDECAR_HOOK } from "./kept.ts";
import { isInSidecar, serviceId } from "./service.ts";

interface Watched {
  identity: TaskIdentity;
  request: WatchTask;
  verdicts: Verdicts;
  reportsHealth: boolean;
  kept: Kept;
  verdict: Verdict | undefined;
  /** When nothing began to be known of it, milliseconds since the epoch. */
  missedSince: number | undefined;
}

/** Sidecar's verdicts on the tasks of this host: what the lane tells, given to the task that it concerns. */
export class SidecarWatch {
  readonly #lane: SidecarLane;
  readonly #keep: Keep;
  readonly #now: () => number;
  readonly #watched = new Map<string, Watched>();

  constructor(lane: SidecarLane, { keep, now }: { keep: Keep; now: () => number }) {
    this.#lane = lane;
    this.#keep = keep;
    this.#now = now;
    lane.on("verdict", (verdict) => this.#tell(verdict));
  }

  /** The watch of one task with these options, on a host of that name. */
  forTask(options: TaskOptions, hostKey: string): Watch {
    return {
      name: "Sidecar",
      decidesHealth: () => false,
      begin: (watched, verdicts) => this.#begin(watched, verdicts, options, hostKey),
    };
  }

  /** What is known of a task; null while it is not watched: before its start, once it stops, or because it stays out of Sidecar. */
  view(identity: TaskIdentity): SidecarView | null {
    const entry = this.#watched.get(taskKey(identity));
    if (entry === undefined) return null;
    const { request, verdict, kept, missedSince } = entry;
    const status = verdict?.status ?? null;
    return {
      host: request.hostKey,
      serviceId: request.serviceId,
      status,
      since: status === null ? (missedSince ?? null) : (verdict?.since ?? null),
      healthy: status === null || verdict?.healthy === true,
      assumedHealthy: status === null ? (verdict?.message ?? `not checked yet, its backoff is ${request.backoffMs / 1000} s`) : null,
      failures: verdict?.failures ?? kept.failures ?? 0,
      maxFails: request.maxFails,
    };
  }

  #begin(
    { identity, task, observed, hookStates }: WatchedTask,
    verdicts: Verdicts,
    { settings }: TaskOptions,
    hostKey: string,
  ): () => void {
    if (!isInSidecar(task) || hostKey === "") return () => {};
    const key = taskKey(identity);
    const kept = readKept(hookStates[SIDECAR_HOOK]);
    const request: WatchTask = {
      taskKey: key,
      serviceId: serviceId(observed.id),
      hostKey,
      backoffMs: settings.sidecarBackoff,
      pollIntervalMs: settings.sidecarPollInterval,
      maxFails: settings.sidecarMaxFails + (settings.sidecarExtraFail ? 1 : 0),
      ageMs: containerAge(observed, this.#now),
      ...(kept.failures === undefined ? {} : { failures: kept.failures }),
      ...(kept.failingSince === undefined ? {} : { failingSince: kept.failingSince }),
    };
    const entry = { identity, request, verdicts, reportsHealth: reportsHealth(task), kept, verdict: undefined, missedSince: undefined };
    this.#watched.set(key, entry);
    void this.#lane.watch(request).catch(() => {}); // The lane is closing; its own log has told of anything else.
    return () => {
      this.#watched.delete(key);
      void this.#lane.unwatch(key).catch(() => {});
    };
  }

  #tell(verdict: Verdict): void {
    const entry = this.#watched.get(verdict.taskKey);
    if (entry === undefined) return;
    const { healthy, status, failures, since, fatal, message } = verdict;
    entry.verdict = verdict;
    entry.missedSince = status === undefined ? this.#now() : undefined;
    const kept: Kept = {
      ...(status === undefined && entry.kept.known !== true ? {} : { known: true }),
      ...(failures === 0 ? {} : { failures, failingSince: since }),
    };
    if (kept.known !== entry.kept.known || kept.failures !== entry.kept.failures) this.#keep(entry.identity, kept);
    entry.kept = kept;
    if (fatal) return entry.verdicts.stop("sidecar-unhealthy", message);
    if (entry.reportsHealth && status !== undefined) {
      entry.verdicts.health(healthy, { message, reason: "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED" });
    }
  }
}

/** A task with a health check of its own has its health from there; two sources would contradict each other. */
function reportsHealth(task: TaskInfo): boolean {
  return task.health_check === undefined;
}
