import type { Hook, HookTask } from "@berth/hooks";
import type { DrainRequest, SidecarLane } from "@berth/sidecar";
import type { TaskOptions } from "../settings.ts";
import { taskKey } from "../task-key.ts";
import { isInSidecar, serviceId } from "./service.ts";
import type { SidecarWatch } from "./sidecar-watch.ts";

export interface SidecarHookParts {
  lane: SidecarLane;
  watch: SidecarWatch;
  optionsFor: (executorEnvironment: Readonly<Record<string, string>>) => TaskOptions;
  masterPort: string;
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
  const { lane, optionsFor, masterPort } = parts;
  return {
    name: "sidecar",
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
        const agentEndpoint = task.executorEnvironment.MESOS_AGENT_ENDPOINT;
        if (!optionsFor(task.executorEnvironment).settings.seedSidecar || agentEndpoint === undefined) return undefined;
        const seeds = await lane.seeds({ agentEndpoint, masterPort }, AbortSignal.any([signal, AbortSignal.timeout(SEEDS_TIMEOUT_MS)]));
        return seeds.length === 0 ? undefined : { environment: { SIDECAR_SEEDS: seeds.join(",") } };
      },
      beforeStop: async (task, { signal, log }) => {
        const id = task.id;
        if (
          id === undefined ||
          task.stop === undefined ||
          task.stop.alreadyEnded ||
          task.stop.cause === "sidecar-unhealthy" ||
          !isInSidecar(task.task)
        )
          return undefined;
        const result = await lane.drain(drainRequest(task, id, parts), signal);
        log.info({ ...result }, result.accepted ? "Sidecar has drained the task" : "Sidecar did not drain the task");
        return undefined;
      },
    },
  };
}

function drainRequest(task: HookTask, id: string, { watch, optionsFor, retryCount, retryDelayMs }: SidecarHookParts): DrainRequest {
  // A service that Sidecar was never seen to know has no clients to wait for: it is asked once, and believed.
  const known = watch.knows(task.identity);
  return {
    taskKey: taskKey(task.identity),
    serviceId: serviceId(id),
    retryCount: known ? retryCount : 0,
    retryDelayMs,
    durationMs: optionsFor(task.executorEnvironment).settings.sidecarDrainingDuration,
    beganAt: task.stop?.since ?? 0,
    waitsUnaccepted: known,
  };
}
