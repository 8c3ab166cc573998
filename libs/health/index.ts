/** Mesos-native health checks and checks: HTTP, HTTPS, TCP and COMMAND, run where the task lives. */

export type { CheckedTask, CheckReport, HealthLog, HealthParts, HealthVerdicts, HealthWatch } from "./types.ts";
export { createHealthWatches, type HealthWatches } from "./watches.ts";
