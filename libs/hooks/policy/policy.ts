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
  /** Whether containers may use the host's network namespace, or another container's. */
  hostNetwork: z.enum(["allow", "refuse"]).default("allow"),
  /** Whether containers may share pid, ipc, uts, cgroup or user namespace with the host or with another container. */
  hostNamespaces: z.enum(["allow", "refuse"]).default("allow"),
  /** Networks that may be named; `host` and `container:` are ruled by `hostNetwork`. */
  networks: names.optional(),
  /** Capabilities that may be added, with or without CAP_. */
  capabilities: names.optional(),
  /** Host devices that may be passed (`/dev/fuse`; a trailing `*` stands for anything). */
  devices: names.optional(),
  /** Security options that may be given (`no-new-privileges`, `label=*`). */
  securityOptions: names.optional(),
  /** Where binds may come from; symbolic links are followed first. Volumes that Docker manages are not binds. */
  volumes: z.array(Volume).optional(),
  /** `registry/repository[:tag|@digest]`, as in `docker.io/library/nginx`; a trailing `*` stands for anything. */
  images: names.optional(),
  /** Images must be named by digest. */
  imageDigest: z.boolean().default(false),
  /** Limits that a container must have. */
  requiredLimits: z.array(z.enum(["memory", "cpu", "pids"])).default([]),
  /** Users that a container may run as, as the task writes them; the image's own user is `""`. */
  users: z.array(z.string()).optional(),
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
