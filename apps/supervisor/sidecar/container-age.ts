import { readFileSync } from "node:fs";
import type { Observed } from "@berth/runtime";
import { isProcessOf } from "../docker/container-process.ts";
import { readStat } from "../executor/process-life.ts";

/** Of the times in /proc/<pid>/stat, on every architecture. */
const TICKS_PER_SECOND = 100;

/**
 * How long a container has run, milliseconds. The kernel's own count from boot where its process can be seen: the engine's and
 * our wall clock may have been set in between. Elsewhere (an engine on another machine) those two are all there is.
 */
export function containerAge(observed: Extract<Observed, { state: "running" }>, now: () => number): number {
  const { id, pid, startedAt } = observed;
  const startTime = isProcessOf({ id, pid }) ? Number(readStat(pid)?.startTime) : Number.NaN;
  const uptime = Number(readFileSync("/proc/uptime", "latin1").split(" ")[0]);
  const age = Number.isFinite(startTime + uptime) ? (uptime - startTime / TICKS_PER_SECOND) * 1000 : now() - startedAt;
  return Math.max(0, age);
}
