/** Parameters that limit CPU, memory, processes and block devices. They replace what would follow from the task's resources. */
import { type Draft, withValues } from "../draft.ts";
import { parseBoolean, parseCpus, parseDeviceValue, parseInteger, parseSize, ValueError } from "./grammar.ts";
import type { DockerParameter } from "./parameter.ts";

/** The names of the limits that an engine knows. */
export const ULIMITS = [
  "core",
  "cpu",
  "data",
  "fsize",
  "locks",
  "memlock",
  "msgqueue",
  "nice",
  "nofile",
  "nproc",
  "rss",
  "rtprio",
  "rttime",
  "sigpending",
  "stack",
];

export const LIMIT_PARAMETERS: readonly DockerParameter[] = [
  {
    key: "cpus",
    accepts: "a decimal number of CPUs",
    description: "Limits CPU time",
    apply(draft, value) {
      draft.host.NanoCpus = parseCpus(value);
    },
  },
  {
    key: "cpu-shares",
    accepts: "a whole number, 1024 by default",
    description: "Relative weight under contention",
    apply(draft, value) {
      draft.host.CpuShares = parseInteger(value, 0);
    },
  },
  {
    key: "cpu-period",
    accepts: "microseconds",
    description: "Period of the CFS quota",
    apply(draft, value) {
      draft.host.CpuPeriod = parseInteger(value, 0);
    },
  },
  {
    key: "cpu-quota",
    accepts: "microseconds per period",
    description: "CFS quota",
    apply(draft, value) {
      draft.host.CpuQuota = parseInteger(value);
    },
  },
  {
    key: "cpu-rt-period",
    accepts: "microseconds",
    description: "Period of the real-time quota",
    apply(draft, value) {
      draft.host.CpuRealtimePeriod = parseInteger(value, 0);
    },
  },
  {
    key: "cpu-rt-runtime",
    accepts: "microseconds per period",
    description: "Real-time quota",
    apply(draft, value) {
      draft.host.CpuRealtimeRuntime = parseInteger(value, 0);
    },
  },
  {
    key: "cpuset-cpus",
    accepts: "a list like 0-3,5",
    description: "CPUs that may be used",
    apply(draft, value) {
      draft.host.CpusetCpus = cpuList(value);
    },
  },
  {
    key: "cpuset-mems",
    accepts: "a list like 0,1",
    description: "Memory nodes that may be used",
    apply(draft, value) {
      draft.host.CpusetMems = cpuList(value);
    },
  },
  {
    key: "memory",
    accepts: "a size like 512m or 1.5g",
    description: "Hard memory limit",
    apply(draft, value) {
      draft.host.Memory = parseSize(value);
    },
  },
  {
    key: "memory-reservation",
    accepts: "a size like 512m or 1.5g",
    description: "Soft memory limit",
    apply(draft, value) {
      draft.host.MemoryReservation = parseSize(value);
    },
  },
  {
    key: "memory-swap",
    accepts: "a size, or -1 for no limit",
    description: "Limit of memory and swap together",
    apply(draft, value) {
      draft.host.MemorySwap = value === "-1" ? -1 : parseSize(value);
    },
  },
  {
    key: "memory-swappiness",
    accepts: "-1 to 100",
    description: "How eagerly the kernel swaps",
    apply(draft, value) {
      draft.host.MemorySwappiness = parseInteger(value, -1, 100);
    },
  },
  {
    key: "kernel-memory",
    accepts: "a size like 64m",
    description: "Kernel memory limit (engines before 23)",
    apply(draft, value) {
      draft.host.KernelMemory = parseSize(value);
    },
  },
  {
    key: "oom-kill-disable",
    accepts: "true|false",
    description: "Lets a container that is out of memory wait instead of being killed",
    apply(draft, value) {
      draft.host.OomKillDisable = parseBoolean(value);
    },
  },
  {
    key: "oom-score-adj",
    accepts: "-1000 to 1000",
    description: "Preference of the host's OOM killer",
    apply(draft, value) {
      draft.host.OomScoreAdj = parseInteger(value, -1000, 1000);
    },
  },
  {
    key: "pids-limit",
    accepts: "a whole number, -1 for no limit",
    description: "Limits the number of processes",
    apply(draft, value) {
      draft.host.PidsLimit = parseInteger(value, -1);
    },
  },
  {
    key: "ulimit",
    accepts: `type=soft[:hard], -1 for no limit; types: ${ULIMITS.join(", ")}`,
    description: "Sets a resource limit of the process",
    repeats: true,
    apply: applyUlimit,
  },
  {
    key: "shm-size",
    accepts: "a size like 64m",
    description: "Size of /dev/shm",
    apply(draft, value) {
      draft.host.ShmSize = parseSize(value);
    },
  },
  {
    key: "blkio-weight",
    accepts: "10 to 1000, 0 to switch it off",
    description: "Relative weight of block I/O",
    apply(draft, value) {
      const weight = parseInteger(value, 0, 1000);
      if (weight > 0 && weight < 10) throw new ValueError("is not between 10 and 1000");
      draft.host.BlkioWeight = weight;
    },
  },
  {
    key: "blkio-weight-device",
    accepts: "/dev/<device>:<10 to 1000>",
    description: "Relative weight of one device",
    repeats: true,
    apply(draft, value) {
      const { path, value: weight } = parseDeviceValue(value, (part) => parseInteger(part, 10, 1000));
      draft.host.BlkioWeightDevice = withValues(draft.host.BlkioWeightDevice, { Path: path, Weight: weight });
    },
  },
  throttle("device-read-bps", "BlkioDeviceReadBps", "bytes per second read from a device", parseSize),
  throttle("device-write-bps", "BlkioDeviceWriteBps", "bytes per second written to a device", parseSize),
  throttle("device-read-iops", "BlkioDeviceReadIOps", "reads per second from a device", (part) => parseInteger(part, 0)),
  throttle("device-write-iops", "BlkioDeviceWriteIOps", "writes per second to a device", (part) => parseInteger(part, 0)),
];

function throttle(
  key: string,
  field: "BlkioDeviceReadBps" | "BlkioDeviceWriteBps" | "BlkioDeviceReadIOps" | "BlkioDeviceWriteIOps",
  what: string,
  parse: (part: string) => number,
): DockerParameter {
  return {
    key,
    accepts: `/dev/<device>:<${key.endsWith("bps") ? "size" : "number"}>`,
    description: `Limits ${what}`,
    repeats: true,
    apply(draft, value) {
      const { path, value: rate } = parseDeviceValue(value, parse);
      draft.host[field] = withValues(draft.host[field], { Path: path, Rate: rate });
    },
  };
}

function cpuList(value: string): string {
  if (!/^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(value)) throw new ValueError("is not a list like 0-3,5");
  return value;
}

function applyUlimit(draft: Draft, value: string): void {
  const match = /^([a-z]+)=(-1|\d+)(?::(-1|\d+))?$/.exec(value);
  if (match === null) throw new ValueError("is not of the form type=soft[:hard]");
  const [, name = "", soft = "", hard = soft] = match;
  if (!ULIMITS.includes(name)) throw new ValueError("has an unknown type");
  const limit = { Name: name, Soft: parseInteger(soft), Hard: parseInteger(hard) };
  if (limit.Hard !== -1 && (limit.Soft === -1 || limit.Soft > limit.Hard)) throw new ValueError("has a soft limit above the hard one");
  draft.ulimits.set(name, limit);
}
