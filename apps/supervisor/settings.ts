import { dirname, join } from "node:path";
import { parseGoDuration } from "@berth/duration";
import type { ImageReference } from "@berth/runtime/docker/image-reference";
import type { DockerTaskOptions } from "@berth/runtime/docker/plan";
import { registryAuth, registryAuthHeader } from "@berth/runtime/docker/registry-auth";
import type { ExitStates } from "./task/outcome.ts";
import { VERSION } from "./version.ts";

/** What decides how one task is run, compiled: durations in milliseconds, nothing undefined that has a default. */
export interface TaskOptions {
  docker: DockerTaskOptions;
  killTaskTimeoutMs: number;
  exitStates: ExitStates;
  pullAttempts: number;
  dockerRepository: string;
  sparedFromSigterm: readonly string[];
  awsRole: string;
  awsRoleTtlMs: number;
}

export interface HostSettings {
  socket: string;
  adminSocket: string;
  logLevel: string;
  logFormat: "auto" | "json" | "pretty";
  adoptionWindowMs: number;
  keepFailedMs: number;
  taskOptions(executorEnvironment: Readonly<Record<string, string>>): TaskOptions;
  registryAuth(image: ImageReference, options: TaskOptions, signal: AbortSignal): Promise<string | undefined>;
  describe(): unknown;
}

export function readSettings(_argv: readonly string[], environment: Readonly<Record<string, string | undefined>>): HostSettings {
  const socket = environment.BERTH_SOCKET ?? "/run/berth/berthd.sock";
  return {
    socket,
    adminSocket: join(dirname(socket), "admin.sock"),
    logLevel: environment.BERTH_LOG_LEVEL ?? "info",
    logFormat: "auto",
    adoptionWindowMs: parseGoDuration(environment.EXECUTOR_ADOPTION_WINDOW ?? "30s") ?? 30_000,
    keepFailedMs: 0,
    taskOptions: () => ({
      docker: {
        forceCpuLimit: false,
        useCpuShares: false,
        forceMemoryLimit: false,
        killTaskTimeoutMs: 5000,
        containerNames: "berth",
        version: VERSION,
        instance: socket,
      },
      killTaskTimeoutMs: 5000,
      exitStates: "berth",
      pullAttempts: 5,
      dockerRepository: "",
      sparedFromSigterm: [],
      awsRole: "",
      awsRoleTtlMs: 0,
    }),
    registryAuth: async (image, options, signal) => {
      const { credentials } = await registryAuth(image, { environment, dockerRepository: options.dockerRepository, signal });
      return credentials === undefined ? undefined : registryAuthHeader(credentials);
    },
    describe: () => [],
  };
}
