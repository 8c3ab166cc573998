import type { Hook, HookTask } from "@berth/hooks";
import type { DrainRequest, SidecarLane } from "@berth/sidecar";
import type { TaskOptions } from "../settings.ts";
import { taskKey } from "../task-key.ts";
import { type Keep, readKept, SIDECAR_HOOK } from "./kept.ts";
import { type MesosAccess, seedsRequest } from "./seeds-request.ts";
import { isInSidecar, serviceId } from "./service.ts";

export interface SidecarHookParts {
  lane: SidecarLane;
  keep: Keep;
  optionsFor: (executorEnvironment: Readonly<Record<string, string>>) => TaskOptions;
  /** For the seeds. */
  mesos: MesosAccess;
  retryCount: number;
  retryDelayMs: number;
}

/** Only a bound: the drain itself ends after the task's SidecarDrainingDuration. */
const TIMEOUT_MS = 600_000;
/** Seeds are a convenience: a master that hangs must not hold up a launch. */
const SEEDS_TIMEOUT_MS = 10_000;

/**
 * Sidecar's part in a task's life: `SIDECAR_SEEDS` before the create, the drain before the first signal of a stop. A task that
 * Sidecar itself calls unhealthy is not drained: nobody is sent to it any more.
 */
export function sidecarHook(parts: SidecarHookParts): Hook {
  const { lane, optionsFor, mesos, keep } = parts;
  return {
    name: SIDECAR_HOOK,
    priority: 400,
    timeoutMs: TIMEOUT_MS,
    failsTask: false,
    describe: (task) => {
      const { settings } = optionsFor(task.executorEnvironment);
      if (!isInSidecar(task.task)) return undefined;
      const drain = `drain it in Sidecar for up to ${settings.sidecarDrainingDuration / 1000} s before a stop`;
      return settings.seedSidecar ? `${drain}, and tell it Sidecar's seeds` : drain;
    },
    stages: {
      beforeCreate: async (task, { signal }) => {
        if (!optionsFor(task.executorEnvironment).settings.seedSidecar) return undefined;
        const request = await seedsRequest(mesos, task.executorEnvironment);
        if (request === undefined) return undefined;
        const seeds = await lane.seeds(request, AbortSignal.any([signal, AbortSignal.timeout(SEEDS_TIMEOUT_MS)]));
        return seeds.length === 0 ? undefined : { environment: { SIDECAR_SEEDS: seeds.join(",") } };
      },
      beforeStop: async (task, { signal, log, state }) => {
        const id = task.id;
        if (
          id === undefined ||
          task.stop === undefined ||
          task.stop.alreadyEnded ||
          task.stop.cause === "sidecar-unhealthy" ||
          !isInSidecar(task.task)
        )
          return undefined;
        const before = readKept(state);
        const request = { ...drainRequest(task, id, parts), known: before.known === true, requested: before.drained === true };
        const result = await lane.drain(request, signal, () => {
          keep(task.identity, { ...before, drained: true });
          log.info({ serviceId: request.serviceId, durationMs: request.durationMs }, "Sidecar has accepted the drain");
        });
        log.info({ ...result }, result.accepted ? "Sidecar has drained the task" : "Sidecar did not drain the task");
        return undefined;
      },
    },
  };
}

function drainRequest(
  task: HookTask,
  id: string,
  { optionsFor, retryCount, retryDelayMs }: SidecarHookParts,
): Omit<DrainRequest, "known" | "requested"> {
  return {
    taskKey: taskKey(task.identity),
    serviceId: serviceId(id),
    retryCount,
    retryDelayMs,
    durationMs: optionsFor(task.executorEnvironment).settings.sidecarDrainingDuration,
    beganAt: task.stop?.since ?? 0,
  };
}
