/**
 * The TaskInfo of the Mesos v1 API as a schema: what a framework sends is parsed here once, and every mistake in it is listed
 * with its path. Declares the fields that Berth reads and passes over all others (a newer Mesos may send more).
 *
 * JSON as the agent writes it (stout/protobuf.hpp): proto field names, enums by name, bytes in base64, 64-bit integers as
 * numbers, and infinite doubles as the string "Infinity". Proto defaults are filled in where the agent may leave them out.
 */
import { z } from "zod";
import { TaskFailure } from "./task-failure.ts";

const id = z.object({ value: z.string().min(1) });
/** JSON has a negative zero, which nothing behind this means to tell from zero. */
const unsignedZero = (value: number): number => value + 0;
const number = z.union([z.number().transform(unsignedZero), z.literal("Infinity").transform(() => Number.POSITIVE_INFINITY)]);
const scalar = z.object({ value: number });
const durationInfo = z.object({ nanoseconds: z.coerce.number().min(0).transform(unsignedZero) });
const port = z.number().int().min(0).max(65535);

export const Labels = z.object({ labels: z.array(z.object({ key: z.string(), value: z.string().default("") })).default([]) });

const Secret = z.object({
  type: z.enum(["UNKNOWN", "REFERENCE", "VALUE"]).default("UNKNOWN"),
  reference: z.object({ name: z.string(), key: z.string().optional() }).optional(),
  value: z.object({ data: z.string() }).optional(),
});

const Variable = z.object({
  name: z.string().min(1),
  type: z.enum(["UNKNOWN", "VALUE", "SECRET"]).default("VALUE"),
  value: z.string().optional(),
  secret: Secret.optional(),
});
export type Variable = z.infer<typeof Variable>;

const Environment = z.object({ variables: z.array(Variable).default([]) });

export const CommandInfo = z.object({
  shell: z.boolean().default(true),
  value: z.string().optional(),
  arguments: z.array(z.string()).default([]),
  environment: Environment.optional(),
  uris: z.array(z.object({ value: z.string() })).default([]),
  user: z.string().optional(),
});
export type CommandInfo = z.infer<typeof CommandInfo>;

const Volume = z.object({
  mode: z.enum(["RW", "RO"]).optional(),
  container_path: z.string().min(1),
  host_path: z.string().optional(),
  source: z
    .object({
      type: z.enum(["UNKNOWN", "DOCKER_VOLUME", "HOST_PATH", "SANDBOX_PATH", "SECRET", "CSI_VOLUME"]).default("UNKNOWN"),
      docker_volume: z
        .object({
          driver: z.string().optional(),
          name: z.string(),
          driver_options: z.object({ parameter: z.array(z.object({ key: z.string(), value: z.string() })).default([]) }).optional(),
        })
        .optional(),
      host_path: z.object({ path: z.string() }).optional(),
      sandbox_path: z.object({ type: z.enum(["UNKNOWN", "SELF", "PARENT"]).default("UNKNOWN"), path: z.string() }).optional(),
    })
    .optional(),
});
export type Volume = z.infer<typeof Volume>;

const PortMapping = z.object({ host_port: port, container_port: port, protocol: z.string().optional() });
export type PortMapping = z.infer<typeof PortMapping>;

const Parameter = z.object({ key: z.string().min(1), value: z.string().default("") });
export type Parameter = z.infer<typeof Parameter>;

export const DockerInfo = z.object({
  image: z.string().min(1),
  network: z.enum(["HOST", "BRIDGE", "NONE", "USER"]).default("HOST"),
  port_mappings: z.array(PortMapping).default([]),
  privileged: z.boolean().default(false),
  parameters: z.array(Parameter).default([]),
  force_pull_image: z.boolean().default(false),
  volume_driver: z.string().optional(),
});
export type DockerInfo = z.infer<typeof DockerInfo>;

const NetworkInfo = z.object({
  name: z.string().optional(),
  groups: z.array(z.string()).default([]),
  labels: Labels.optional(),
  port_mappings: z.array(PortMapping).default([]),
});

const RLimit = z.object({ type: z.string(), hard: z.coerce.number().optional(), soft: z.coerce.number().optional() });

export const ContainerInfo = z.object({
  type: z.enum(["DOCKER", "MESOS"]),
  volumes: z.array(Volume).default([]),
  hostname: z.string().optional(),
  docker: DockerInfo.optional(),
  mesos: z.object({ image: z.looseObject({}).optional() }).optional(),
  linux_info: z.looseObject({}).optional(),
  network_infos: z.array(NetworkInfo).default([]),
  rlimit_info: z.object({ rlimits: z.array(RLimit).default([]) }).optional(),
});
export type ContainerInfo = z.infer<typeof ContainerInfo>;

const Resource = z.object({
  name: z.string(),
  type: z.enum(["SCALAR", "RANGES", "SET", "TEXT"]),
  scalar: scalar.optional(),
  ranges: z.object({ range: z.array(z.object({ begin: z.coerce.number(), end: z.coerce.number() })).default([]) }).optional(),
  role: z.string().optional(),
  allocation_info: z.object({ role: z.string().optional() }).optional(),
});
export type Resource = z.infer<typeof Resource>;

const HttpCheck = z.object({
  protocol: z.enum(["IPv4", "IPv6"]).default("IPv4"),
  scheme: z.enum(["http", "https"]).default("http"),
  port: port,
  path: z.string().startsWith("/").optional(),
  statuses: z.array(z.number().int()).default([]),
});
const TcpCheck = z.object({ protocol: z.enum(["IPv4", "IPv6"]).default("IPv4"), port: port });
const seconds = z.number().min(0);

export const HealthCheck = z
  .object({
    type: z.enum(["COMMAND", "HTTP", "TCP"]),
    delay_seconds: seconds.default(15),
    interval_seconds: seconds.default(10),
    timeout_seconds: seconds.default(20),
    consecutive_failures: z.number().int().min(0).default(3),
    grace_period_seconds: seconds.default(10),
    command: CommandInfo.optional(),
    http: HttpCheck.optional(),
    tcp: TcpCheck.optional(),
  })
  .superRefine(requireMember);
export type HealthCheck = z.infer<typeof HealthCheck>;

export const CheckInfo = z
  .object({
    type: z.enum(["COMMAND", "HTTP", "TCP"]),
    delay_seconds: seconds.default(15),
    interval_seconds: seconds.default(10),
    timeout_seconds: seconds.default(20),
    command: z.object({ command: CommandInfo }).optional(),
    http: z.object({ port: port, path: z.string().startsWith("/").optional() }).optional(),
    tcp: z.object({ port: port }).optional(),
  })
  .superRefine(requireMember);
export type CheckInfo = z.infer<typeof CheckInfo>;

function requireMember(
  check: { type: "COMMAND" | "HTTP" | "TCP"; command?: unknown; http?: unknown; tcp?: unknown },
  context: z.RefinementCtx,
): void {
  const member = check.type.toLowerCase() as "command" | "http" | "tcp";
  if (check[member] === undefined)
    context.addIssue({ code: "custom", message: `a check of type ${check.type} needs its '${member}' field` });
}

const DiscoveryPort = z.object({
  number: z.number().int().min(0).max(65535),
  name: z.string().optional(),
  protocol: z.string().optional(),
  labels: Labels.optional(),
});
export type DiscoveryPort = z.infer<typeof DiscoveryPort>;

const DiscoveryInfo = z.object({
  name: z.string().optional(),
  environment: z.string().optional(),
  version: z.string().optional(),
  ports: z.object({ ports: z.array(DiscoveryPort).default([]) }).optional(),
  labels: Labels.optional(),
});

export const KillPolicy = z.object({ grace_period: durationInfo.optional() });

export const ExecutorInfo = z.object({
  executor_id: id.optional(),
  type: z.string().optional(),
  command: CommandInfo.optional(),
  resources: z.array(Resource).default([]),
  shutdown_grace_period: durationInfo.optional(),
  labels: Labels.optional(),
});

export const TaskInfo = z.object({
  name: z.string().default(""),
  task_id: id,
  agent_id: id.optional(),
  resources: z.array(Resource).default([]),
  executor: ExecutorInfo.optional(),
  command: CommandInfo.optional(),
  container: ContainerInfo.optional(),
  data: z.string().optional(),
  labels: Labels.optional(),
  discovery: DiscoveryInfo.optional(),
  health_check: HealthCheck.optional(),
  check: CheckInfo.optional(),
  kill_policy: KillPolicy.optional(),
  max_completion_time: durationInfo.optional(),
  limits: z.record(z.string(), scalar).optional(),
});
/** A parsed TaskInfo: defaults are filled in, numbers are numbers, unknown fields are gone. */
export type TaskInfo = z.infer<typeof TaskInfo>;

/**
 * Parses a TaskInfo from the agent's JSON. Throws a {@link TaskFailure} with state TASK_ERROR that lists every mistake with its
 * path; values are never repeated in it, because a TaskInfo holds secrets.
 */
export function parseTaskInfo(json: unknown): TaskInfo {
  const result = TaskInfo.safeParse(json);
  if (result.success) return result.data;
  const mistakes = result.error.issues.map((issue) => `${issue.path.join(".") || "TaskInfo"}: ${describe(issue)}`);
  throw new TaskFailure(`the TaskInfo is invalid: ${mistakes.join("; ")}`, { state: "TASK_ERROR", reason: "REASON_TASK_INVALID" });
}

function describe(issue: z.core.$ZodIssue): string {
  return issue.message.replace(/^Invalid (input|option): /, "");
}

/** The task's label with this key, or undefined. The last one wins, as in Mesos. */
export function label(task: Pick<TaskInfo, "labels">, key: string): string | undefined {
  return task.labels?.labels.findLast((entry) => entry.key === key)?.value;
}

/** The sum of all scalar resources with this name, over every role and reservation; undefined when there is none. */
export function scalarResource(task: Pick<TaskInfo, "resources">, name: string): number | undefined {
  const entries = task.resources.filter((resource) => resource.name === name && resource.scalar !== undefined);
  return entries.length === 0 ? undefined : entries.reduce((sum, resource) => sum + (resource.scalar?.value ?? 0), 0);
}
