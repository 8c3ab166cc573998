import type { CheckInfo, HealthCheck } from "@berth/mesos/task-info";
import type { Outcome } from "./outcome.ts";
import type { CheckedTask, HealthParts } from "./types.ts";

/** Makes one check of one task. */
export class Probe {
  constructor(_parts: Pick<HealthParts, "exec"> & { procPath: string }) {}

  async run(_check: HealthCheck | CheckInfo, _observed: CheckedTask["observed"], _signal: AbortSignal): Promise<Outcome> {
    return { kind: "unknown", why: "no checks yet" };
  }
}
