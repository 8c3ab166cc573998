import { parseMesosDuration } from "@berth/duration";
import { TaskFailure } from "@berth/mesos";
import { z } from "zod";

/** DNS settings for one kind of network (mesos.proto, `ContainerDNSInfo.DockerInfo`). */
const ContainerDns = z.object({
  docker: z
    .array(
      z.object({
        network_mode: z.string(),
        network_name: z.string().optional(),
        dns: z.object({
          nameservers: z.array(z.string()).default([]),
          search: z.array(z.string()).default([]),
          options: z.array(z.string()).default([]),
        }),
      }),
    )
    .default([]),
});
export type ContainerDns = z.infer<typeof ContainerDns>;

const TaskEnvironment = z.record(z.string(), z.string());

/** The command line that Mesos's docker containerizer gives its docker executor, as far as it means something to Berth. */
export interface DropInFlags {
  /** The name that the containerizer will look for. Only where it is given does Berth stand in for that executor. */
  container?: string;
  /** The docker client's path; Berth needs none. */
  docker?: string;
  /** The engine's socket. */
  dockerSocket?: string;
  /** The sandbox on the host, by a path that may differ from MESOS_DIRECTORY (a symbolic link without colons). */
  sandboxDirectory?: string;
  /** Where the sandbox is mounted in the container. */
  mappedDirectory?: string;
  stopTimeoutMs?: number;
  launcherDirectory?: string;
  /** Variables of the agent's hooks; they win over the task's. */
  taskEnvironment?: Record<string, string>;
  defaultContainerDns?: ContainerDns;
  cgroupsEnableCfs: boolean;
  /** Arguments that mean nothing to Berth, for a warning: by name only, a value may be a secret. */
  unknown: string[];
}

/** Logging and help flags of every Mesos program: taken, without effect. */
const WITHOUT_EFFECT = [
  "help",
  "initialize_driver_logging",
  "logging_level",
  "log_dir",
  "logbufsecs",
  "quiet",
  "external_log_file",
  "logtostderr",
  "v",
];

const SETTERS: Readonly<Record<string, (flags: DropInFlags, value: string) => void>> = {
  container(flags, value) {
    flags.container = value;
  },
  docker(flags, value) {
    flags.docker = value;
  },
  docker_socket(flags, value) {
    flags.dockerSocket = value;
  },
  sandbox_directory(flags, value) {
    flags.sandboxDirectory = value;
  },
  mapped_directory(flags, value) {
    flags.mappedDirectory = value;
  },
  launcher_dir(flags, value) {
    flags.launcherDirectory = value;
  },
  stop_timeout(flags, value) {
    const milliseconds = parseMesosDuration(value);
    if (milliseconds === undefined) throw badFlag("stop_timeout", "a duration like 5secs");
    flags.stopTimeoutMs = milliseconds;
  },
  task_environment(flags, value) {
    flags.taskEnvironment = parseJson("task_environment", value, TaskEnvironment, "a JSON object whose values are strings");
  },
  default_container_dns(flags, value) {
    flags.defaultContainerDns = parseJson(
      "default_container_dns",
      value,
      ContainerDns,
      "a JSON object as the agent's flag of the same name",
    );
  },
  cgroups_enable_cfs(flags, value) {
    flags.cgroupsEnableCfs = value !== "false" && value !== "0";
  },
};

/**
 * Parses the flags in the grammar of Mesos's programs: `--name=value`, `--name` and `--no-name` for booleans. An unknown
 * flag is remembered and no mistake; a known one with a bad value throws a {@link TaskFailure}.
 */
export function parseDropInFlags(args: readonly string[]): DropInFlags {
  const flags: DropInFlags = { cgroupsEnableCfs: false, unknown: [] };
  for (const argument of args) {
    if (argument.trim() === "") continue;
    const match = /^--?(no-)?([A-Za-z][\w-]*)(?:=([\s\S]*))?$/.exec(argument);
    const [, negated, name = "", value] = match ?? [];
    const setter = Object.hasOwn(SETTERS, name) ? SETTERS[name] : undefined;
    if (setter !== undefined) setter(flags, value ?? (negated === undefined ? "true" : "false"));
    else if (match === null) flags.unknown.push("an argument that is no flag");
    else if (!WITHOUT_EFFECT.includes(name)) flags.unknown.push(`--${negated ?? ""}${name}`);
  }
  return flags;
}

/** Whether the command line is that of Mesos's docker executor: then its rules hold instead of sidecar-executor's. */
export function isDropIn(flags: DropInFlags): flags is DropInFlags & { container: string } {
  return flags.container !== undefined && flags.container !== "";
}

function parseJson<Value>(name: string, text: string, schema: z.ZodType<Value>, accepted: string): Value {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw badFlag(name, accepted);
  }
  const result = schema.safeParse(json);
  if (!result.success) throw badFlag(name, accepted);
  return result.data;
}

/** Without the value: task_environment holds secrets. */
function badFlag(name: string, accepted: string): TaskFailure {
  return new TaskFailure(`the agent started the executor with a bad --${name}: it must be ${accepted}`);
}
