import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { HostSettings as ConfiguredHost, TaskSettings } from "@berth/config";
import {
  describeMistake,
  describeSettings,
  helpText,
  type LoadedSettings,
  loadSettings,
  type SettingRow,
  settingsEnvironment,
  taskSettings,
} from "@berth/config";
import { fromGoMesosConfig, HooksConfig, Policy } from "@berth/hooks";
import type { SinkConfig } from "@berth/logrelay";
import { TaskFailure } from "@berth/mesos";
import type { ImageReference } from "@berth/runtime/docker/image-reference";
import type { DockerTaskOptions } from "@berth/runtime/docker/plan";
import { registryAuth, registryAuthHeader } from "@berth/runtime/docker/registry-auth";
import { LogSinks } from "./logs/sink-schema.ts";
import type { ExitStates } from "./task/outcome.ts";
import { VERSION } from "./version.ts";

/** What decides how one task is run, compiled: durations in milliseconds, nothing undefined that has a default. */
export interface TaskOptions {
  /** Every setting of scope task, as this task has it. */
  settings: TaskSettings;
  docker: DockerTaskOptions;
  killTaskTimeoutMs: number;
  exitStates: ExitStates;
  pullAttempts: number;
  dockerRepository: string;
  sparedFromSigterm: readonly string[];
  awsRole: string;
  awsRoleTtlMs: number;
  /** Overrides of the task that are not allowed, a sentence each. */
  warnings: readonly string[];
}

/** The daemon's settings, compiled. */
export interface HostSettings {
  configured: Omit<ConfiguredHost, keyof typeof SECTIONS>;
  socket: string;
  adminSocket: string;
  logLevel: string;
  logFormat: "auto" | "json" | "pretty";
  adoptionWindowMs: number;
  keepFailedMs: number;
  removeContainers: boolean;
  warnings: readonly string[];
  hooks: HooksConfig;
  policy: Policy;
  /** Receivers of every task's output. */
  logSinks: SinkConfig[];
  /** The environment for libraries that read their own variables (DOCKER_*, VAULT_*, REDIS_URL, CONSUL_*), flags and file included. */
  environment: Readonly<Record<string, string | undefined>>;
  /** The settings of a task with this executor environment. Throws a TaskFailure that names every override that does not fit. */
  taskOptions(executorEnvironment: Readonly<Record<string, string>>): TaskOptions;
  /** The X-Registry-Auth header for an image, read anew at each call; undefined: pull anonymously. */
  registryAuth(image: ImageReference, options: TaskOptions, signal: AbortSignal): Promise<string | undefined>;
  /** Every setting with its value and where it came from; secrets are masked. */
  describe(): SettingRow[];
}

/** A start that is no start: `--help`, `--version`, or settings with mistakes. `text` is for the person at the terminal. */
export class NotStarting extends Error {
  override readonly name = "NotStarting";
  readonly exitCode: number;

  constructor(text: string, exitCode: number) {
    super(text);
    this.exitCode = exitCode;
  }
}

/** The sections of the file that belong to other libraries; what is absent gets their defaults. */
const SECTIONS = { ...HooksConfig.shape, policy: Policy.prefault({}), logSinks: LogSinks };
type Loaded = LoadedSettings<typeof SECTIONS>;

/** Reads flags, environment and file. Throws {@link NotStarting} with all mistakes at once. */
export function readSettings(
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  readFile: (path: string) => string | undefined = readFileIfThere,
): HostSettings {
  const loaded = loadSettings({ argv, environment, readFile, schemas: SECTIONS });
  if (loaded.request === "help") throw new NotStarting(helpText(), 0);
  if (loaded.request === "version") throw new NotStarting(`berthd ${VERSION}`, 0);
  if (loaded.mistakes.length > 0) {
    const lines = loaded.mistakes.map((mistake) => `  ${describeMistake(mistake)}`);
    throw new NotStarting(`berthd cannot start, these settings are wrong:\n${lines.join("\n")}`, 2);
  }
  return compile(loaded, readFile, environment);
}

/** Where go-mesos-executor has its settings. */
const GO_MESOS_CONFIG = "/etc/mesos-executor/config.yaml";

/**
 * The hooks of a host that ran go-mesos-executor: its file counts where Berth's own says nothing of hooks. A file that cannot be
 * used is told and passed over: it was written for another program.
 */
function inheritedHooks(
  origins: Loaded["origins"],
  readFile: (path: string) => string | undefined,
): { sections: Partial<HooksConfig>; notes: string[] } {
  const own = (["hooks", "acl", "iptables", "netns", "network"] as const).some((name) => origins[name] !== "default");
  const text = own ? undefined : readFile(GO_MESOS_CONFIG);
  if (text === undefined) return { sections: {}, notes: [] };
  try {
    const { config, notes } = fromGoMesosConfig(text);
    const { hooks, acl, iptables, netns, network } = config;
    return { sections: { hooks, acl, iptables, netns, network }, notes: notes.map((note) => `${GO_MESOS_CONFIG}: ${note}`) };
  } catch (error) {
    return { sections: {}, notes: [`${GO_MESOS_CONFIG} is passed over: ${error instanceof Error ? error.message : error}`] };
  }
}

function compile(
  loaded: Loaded,
  readFile: (path: string) => string | undefined,
  given: Readonly<Record<string, string | undefined>>,
): HostSettings {
  const { settings, origins } = loaded;
  const inherited = inheritedHooks(origins, readFile);
  const environment = settingsEnvironment(given, { ...settings }, origins);
  const { hooks, acl, iptables, consul, vaas, netns, network, policy, logSinks } = settings;
  return {
    configured: settings,
    socket: settings.socket,
    adminSocket: settings.adminSocket === "" ? join(dirname(settings.socket), "admin.sock") : settings.adminSocket,
    logLevel: settings.debug ? "debug" : settings.logLevel,
    logFormat: settings.logFormat,
    adoptionWindowMs: settings.adoptionWindow,
    keepFailedMs: settings.keepFailed,
    removeContainers: settings.removeContainers,
    warnings: [...loaded.warnings, ...inherited.notes],
    hooks: { ...{ hooks, acl, iptables, consul, vaas, netns, network }, ...inherited.sections },
    policy,
    logSinks,
    environment,
    taskOptions: (executorEnvironment) => taskOptions(loaded, executorEnvironment, environment),
    registryAuth: async (image, options, signal) => {
      const { credentials } = await registryAuth(image, { environment, dockerRepository: options.dockerRepository, signal });
      return credentials === undefined ? undefined : registryAuthHeader(credentials);
    },
    describe: () => describeSettings({ ...settings }, origins),
  };
}

function taskOptions(
  loaded: Loaded,
  executorEnvironment: Readonly<Record<string, string>>,
  environment: Readonly<Record<string, string | undefined>>,
): TaskOptions {
  const { settings, mistakes, warnings } = taskSettings(loaded, executorEnvironment);
  if (mistakes.length > 0) {
    throw new TaskFailure(`the executor's environment has settings that do not fit: ${mistakes.map(describeMistake).join("; ")}`);
  }
  return {
    settings,
    docker: {
      forceCpuLimit: settings.forceCpuLimit,
      useCpuShares: settings.useCpuShares,
      forceMemoryLimit: settings.forceMemoryLimit,
      killTaskTimeoutMs: settings.killTaskTimeout,
      containerNames: loaded.settings.containerNames,
      ...(loaded.settings.mappedDirectory === "" ? {} : { mappedDirectory: loaded.settings.mappedDirectory }),
      version: VERSION,
      instance: loaded.settings.socket,
      ...(environment.VAULT_ADDR === undefined ? {} : { vaultAddress: environment.VAULT_ADDR }),
    },
    killTaskTimeoutMs: settings.killTaskTimeout,
    exitStates: settings.exitStates,
    pullAttempts: settings.pullAttempts,
    dockerRepository: settings.dockerRepository,
    sparedFromSigterm: settings.sigtermExcludeProcesses,
    awsRole: settings.awsRole,
    awsRoleTtlMs: settings.awsRoleTtl,
    warnings,
  };
}

function readFileIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
