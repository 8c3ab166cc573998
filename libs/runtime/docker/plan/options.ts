/** The settings that decide how a task becomes a container, compiled: no defaults are filled in here, durations are milliseconds. */
export interface DockerTaskOptions {
  /** Limit CPU by the task's `cpus` resource. */
  forceCpuLimit: boolean;
  /** With `forceCpuLimit`: relative shares instead of a CFS quota. */
  useCpuShares: boolean;
  /** Limit memory by the task's `mem` resource. */
  forceMemoryLimit: boolean;
  /** Grace period where neither the TaskInfo nor the command line names one. */
  killTaskTimeoutMs: number;
  /** `mesos`: the names of sidecar-executor, which Mesos's docker containerizer kills when its agent recovers. */
  containerNames: "berth" | "mesos";
  /** Where the task's sandbox is mounted; absent: it is not, unless the command line of Mesos's docker executor says so. */
  mappedDirectory?: string;
  /** Where Vault is; only whether it is set matters: without it a secret REFERENCE cannot be resolved. */
  vaultAddress?: string;
  /** What the engine's machine has (`NCPU` and `MemTotal` of `GET /info`), for shares and OOM scores; absent while that is not known. */
  host?: { cpus: number; memoryBytes: number };
  /** Berth's own version, for the labels. */
  version: string;
  /** Names the supervisor among several that use one engine, so that each reaps only its own containers. */
  instance?: string;
  /** Labels of hooks and of the supervisor, all below `berth.`; they win. */
  extraLabels?: Readonly<Record<string, string>>;
}
