import * as z from "zod/mini";

/** The daemon's own state. Times are milliseconds since the epoch. */
export const HostInfo = z.object({
  version: z.string(),
  /** "v24.21.0" */
  node: z.string(),
  pid: z.number(),
  /** Versions of the workers' protocol. */
  protocol: z.readonly(z.array(z.number())),
  startedAt: z.number(),
  executors: z.number(),
  tasks: z.number(),
  /** What a launch depends on, by name. */
  dependencies: z.record(z.string(), z.object({ ready: z.boolean(), detail: z.string() })),
  /** The Docker thread; null where it did not answer. */
  docker: z.nullable(
    z.object({
      heapUsedBytes: z.number(),
      /** Open connections by use. */
      connections: z.record(z.string(), z.number()),
      /** Calls that wait for a connection or for their container's turn. */
      waiting: z.number(),
      calls: z.number(),
      failures: z.number(),
      timeouts: z.number(),
    }),
  ),
  /** The reader of Sidecar; null where there is none, or it did not answer. */
  sidecar: z.nullable(
    z.object({
      url: z.string(),
      /** How the state is got. */
      mode: z.string(),
      reachable: z.boolean(),
      since: z.number(),
      problem: z.optional(z.string()),
      /** When the last state came that could be used. */
      lastState: z.optional(z.number()),
      requests: z.number(),
      /** How many it watches. */
      tasks: z.number(),
      draining: z.number(),
    }),
  ),
});
export type HostInfo = z.infer<typeof HostInfo>;

/** What a launch of a TaskInfo on this host would come to. */
export const PlanView = z.object({
  /** "docker" or "process". */
  runtime: z.string(),
  name: z.string(),
  image: z.optional(z.string()),
  /** The Docker create request without its environment. */
  create: z.optional(z.unknown()),
  argv: z.optional(z.array(z.string())),
  environment: z.record(z.string(), z.string()),
  /** Variables of the executor that would not be passed on. */
  withheld: z.array(z.string()),
  gracePeriodMs: z.number(),
  warnings: z.array(z.string()),
  /** In the order in which they would act. */
  hooks: z.array(z.object({ stage: z.string(), hook: z.string(), does: z.string() })),
});
export type PlanView = z.infer<typeof PlanView>;

/** One hook, in the order in which they run. */
export const HookRow = z.object({
  name: z.string(),
  priority: z.number(),
  stages: z.array(z.string()),
  timeoutMs: z.number(),
  failsTask: z.boolean(),
});
export type HookRow = z.infer<typeof HookRow>;
export const HookRows = z.array(HookRow);

/** One setting; a secret one shows only where it came from. */
export const SettingRow = z.object({ name: z.string(), value: z.string(), origin: z.string() });
export type SettingRow = z.infer<typeof SettingRow>;
export const SettingRows = z.array(SettingRow);

/** The host's Vault token and how Vault answers; never the token itself. */
export const VaultView = z.object({
  address: z.string(),
  /** "open": calls go through; otherwise why launches wait. */
  state: z.string(),
  problem: z.optional(z.string()),
  /** Absent until the first task needed one. */
  token: z.optional(
    z.object({
      source: z.string(),
      policies: z.array(z.string()),
      renewable: z.boolean(),
      expiresAt: z.optional(z.number()),
      renewsAt: z.optional(z.number()),
    }),
  ),
  fleet: z.object({ state: z.string(), problem: z.optional(z.string()) }),
  leases: z.number(),
});
export type VaultView = z.infer<typeof VaultView>;
