import type { ImageReference } from "@berth/runtime/docker/image-reference";
import type { CreateBody } from "@berth/runtime/docker/plan";
import { z } from "zod";

const names = z.array(z.string().min(1));

const Volume = z.strictObject({
  /** Absolute; binds at it and below it are allowed. */
  prefix: z.string().startsWith("/"),
  readOnly: z.boolean().default(false),
});

/**
 * The `policy:` section. A rule that is absent is off; an empty list allows nothing. All rules look at the create request that
 * would go to dockerd, so it does not matter whether a task says it in its TaskInfo or as a docker parameter.
 */
export const Policy = z.strictObject({
  /** Default `warn`. */
  privileged: z.enum(["allow", "warn", "refuse"]).default("warn"),
  /** Whether containers may use the host's network namespace. */
  hostNetwork: z.enum(["allow", "refuse"]).default("allow"),
  /** Whether containers may share the host's pid, ipc, uts, cgroup or user namespace. */
  hostNamespaces: z.enum(["allow", "refuse"]).default("allow"),
  /** Networks that may be named; host is ruled by `hostNetwork`. */
  networks: names.optional(),
  /** Capabilities that may be added, with or without CAP_. */
  capabilities: names.optional(),
  /** Host devices (`/dev/fuse`; a trailing `*` stands for anything) that may be passed. */
  devices: names.optional(),
  /** Security options that may be given (`no-new-privileges`, `label=*`). */
  securityOptions: names.optional(),
  /** Where binds may come from; symbolic links are followed first. */
  volumes: z.array(Volume).optional(),
  /** `registry/repository[:tag|@digest]`; a trailing `*` stands for anything. */
  images: names.optional(),
  /** Images must be named by digest. */
  imageDigest: z.boolean().default(false),
  /** Limits that a container must have. */
  requiredLimits: z.array(z.enum(["memory", "cpu", "pids"])).default([]),
  /** Users that a container may run as by name or id; the image's own user is `""`. */
  users: names.optional(),
});
/** The compiled `policy:` section. */
export type Policy = z.infer<typeof Policy>;

/** A rule that refuses a task, and why, in words for the task's owner. */
export interface Refusal {
  /** The option of the `policy:` section. */
  rule: keyof Policy;
  why: string;
  /** True where the rule only warns. */
  warning?: boolean;
}

export interface PolicyFiles {
  /** Follows symbolic links; of a path that does not exist, those of its existing part. Default: the host's. */
  realPath?: (path: string) => string;
  /** The task's sandbox, which is always allowed. */
  sandbox?: string;
}

/** Judges the final create request. No refusals: the task may run. Entries with `warning` do not stop it. */
export function judgePlan(_create: CreateBody, _image: ImageReference, _policy: Policy, _files: PolicyFiles = {}): Refusal[] {
  return [];
}
