/** Mesos-native health checks and checks: HTTP, HTTPS, TCP and COMMAND, run where the task lives. */
export { createHealthWatches } from "./watches.ts";
export type { CheckedTask, CheckReport, HealthLog, HealthParts, HealthVerdicts, HealthWatch } from "./types.ts";
