import { scalarResource, type TaskInfo } from "@berth/mesos/task-info";
import type { Draft } from "./draft.ts";
import { type DropInFlags, isDropIn } from "./drop-in.ts";
import { invalidField } from "./invalid.ts";
import type { DockerTaskOptions } from "./options.ts";

const MIB = 1024 * 1024;
/** The kernel refuses less than two shares and a quota below a millisecond, the engine less than 6 MiB. */
const MIN_CPU_SHARES = 2;
const MIN_CPU_QUOTA_US = 1000;
const MIN_MEMORY = 6 * MIB;
/** The minimum of Mesos's docker executor. */
const MIN_MEMORY_MESOS = 32 * MIB;
/** Half of the kernel's default: shorter pauses for the same share, as sidecar-executor has it. */
const CFS_PERIOD_US = 50_000;
const KERNEL_CFS_PERIOD_US = 100_000;
const SHARES_PER_CPU = 1024;
/** CPUs or MiB: far above any machine, far below an overflow. */
const MAX_AMOUNT = 1e9;

/**
 * Sets CPU and memory limits from the task's resources and limits, where no docker parameter did. Three rules:
 *
 * - `TaskInfo.limits` is the framework's explicit word and always holds: request → shares and reservation, limit → quota and memory.
 * - In the place of Mesos's docker executor: as that one does, always.
 * - Otherwise as sidecar-executor does: nothing, unless `forceCpuLimit` and `forceMemoryLimit` say so.
 */
export function applyResources(draft: Draft, task: TaskInfo, flags: DropInFlags, options: DockerTaskOptions): void {
  const { cpus: cpuLimit, mem: memoryLimit } = limitsOf(task);
  const requests = { cpus: scalarResource(task, "cpus"), mem: scalarResource(task, "mem") };
  for (const [field, value] of [
    ["limits.cpus", cpuLimit],
    ["limits.mem", memoryLimit],
    ["resources: cpus", requests.cpus],
    ["resources: mem", requests.mem],
  ] as const) {
    requireSensible(field, value);
  }
  const dropIn = isDropIn(flags);
  if (dropIn || cpuLimit !== undefined) applyCpuAsMesos(draft, requests.cpus, cpuLimit, flags.cgroupsEnableCfs);
  else if (options.forceCpuLimit) applyCpuAsIncumbent(draft, requests.cpus, options);

  if (dropIn || memoryLimit !== undefined) applyMemory(draft, requests.mem, memoryLimit, options, dropIn ? MIN_MEMORY_MESOS : MIN_MEMORY);
  else if (options.forceMemoryLimit) applyMemory(draft, requests.mem, undefined, options, MIN_MEMORY);
}

function limitsOf(task: TaskInfo): { cpus?: number | undefined; mem?: number | undefined } {
  return { cpus: task.limits?.cpus?.value, mem: task.limits?.mem?.value };
}

/** Keeps out what would overflow the engine's integers; infinite is a fine value. */
function requireSensible(field: string, value: number | undefined): void {
  if (value === undefined || value === Number.POSITIVE_INFINITY) return;
  if (!(value >= 0 && value <= MAX_AMOUNT)) throw invalidField(field, `it must be between 0 and ${MAX_AMOUNT}`);
}

/** Whether a docker parameter has set a limit of CPU time: the engine refuses two kinds at once, and the parameter wins. */
function hasQuota({ host }: Draft): boolean {
  return host.NanoCpus !== undefined || host.CpuQuota !== undefined || host.CpuPeriod !== undefined;
}

function applyCpuAsMesos(draft: Draft, request: number | undefined, limit: number | undefined, enableQuota: boolean): void {
  if (request !== undefined && Number.isFinite(request))
    draft.host.CpuShares ??= Math.max(Math.trunc(request * SHARES_PER_CPU), MIN_CPU_SHARES);
  const cpus = limit ?? (enableQuota ? request : undefined);
  if (cpus === undefined || !Number.isFinite(cpus) || hasQuota(draft)) return;
  draft.host.CpuQuota = Math.max(Math.trunc(cpus * KERNEL_CFS_PERIOD_US), MIN_CPU_QUOTA_US);
}

function applyCpuAsIncumbent(draft: Draft, cpus: number | undefined, options: DockerTaskOptions): void {
  if (cpus === undefined || !Number.isFinite(cpus)) return;
  if (options.useCpuShares) {
    // 1024 shares are the whole machine here, so that the sum over all tasks of a host means something.
    draft.host.CpuShares ??= Math.max(
      Math.trunc(SHARES_PER_CPU * Math.min(1, cpus / Math.max(options.host?.cpus ?? 1, 1))),
      MIN_CPU_SHARES,
    );
    return;
  }
  if (hasQuota(draft)) return;
  draft.host.CpuPeriod = CFS_PERIOD_US;
  draft.host.CpuQuota = Math.max(Math.trunc(cpus * CFS_PERIOD_US), MIN_CPU_QUOTA_US);
}

function applyMemory(
  draft: Draft,
  requestMib: number | undefined,
  limitMib: number | undefined,
  options: DockerTaskOptions,
  minimum: number,
): void {
  // A parameter that sets the limit also decides the reservation: one computed for another limit could lie above it.
  if (draft.host.Memory !== undefined) return;
  const request = bytes(requestMib, minimum);
  if (limitMib === undefined) {
    if (request !== undefined) setMemory(draft, request, requestMib, minimum);
    return;
  }
  const limit = bytes(limitMib, minimum);
  if (limit !== undefined) setMemory(draft, limit, limitMib, minimum);
  if (request === undefined) return;
  draft.host.MemoryReservation ??= limit === undefined ? request : Math.min(request, limit);
  // Whoever uses more than was asked for is the first to go when the host itself runs out of memory.
  if ((limit === undefined || request < limit) && options.host !== undefined) {
    draft.host.OomScoreAdj ??= Math.max(1000 - Math.floor((1000 * request) / options.host.memoryBytes), -1000);
  }
}

function setMemory(draft: Draft, memory: number, mib: number | undefined, minimum: number): void {
  draft.host.Memory = memory;
  if (mib !== undefined && mib * MIB < minimum)
    draft.warnings.push(`memory: ${mib} MiB is below the minimum and was raised to ${minimum / MIB} MiB`);
}

/** Undefined for what is not set or has no end. */
function bytes(mib: number | undefined, minimum: number): number | undefined {
  if (mib === undefined || !Number.isFinite(mib)) return undefined;
  return Math.max(Math.trunc(mib * MIB), minimum);
}
