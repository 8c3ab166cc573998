/** How a task's Mesos would be configured; every default is Mesos's own. Times are milliseconds. */
export interface LocalAgentOptions {
  /** The agent's work directory: sandboxes are made below it, and the domain socket lies in it. It is not removed by `stop()`. */
  workDirectory: string;
  /** "domain-socket" additionally listens on a unix socket and names it to executors, as `--http_executor_domain_sockets` does. */
  transport?: "tcp" | "domain-socket";
  /** Where the domain socket lies, below 108 bytes. Default `<workDirectory>/agent.sock`. */
  domainSocketPath?: string;
  /** Serves TLS on the TCP port, as an agent with LIBPROCESS_SSL_ENABLED=1: PEM texts. Nothing in an executor's environment tells. */
  tls?: { key: string; cert: string };
  hostname?: string;
  /** Whether the framework asked for checkpointing: MESOS_CHECKPOINT, and whether a restarted agent still knows its executors. */
  checkpoint?: boolean;
  /** `--recovery_timeout`, default 15 min. */
  recoveryTimeoutMs?: number;
  /** `--executor_reregistration_timeout`, default 2 s: who has not subscribed by then after a restart is destroyed. */
  reregistrationTimeoutMs?: number;
  /** `--executor_registration_timeout`, default 60 s from start to SUBSCRIBE. */
  registrationTimeoutMs?: number;
  /** `--executor_shutdown_grace_period`, default 5 s. An ExecutorInfo's own `shutdown_grace_period` wins. */
  executorShutdownGraceMs?: number;
  /** Interval of HEARTBEAT events, the first one interval after SUBSCRIBED. Default 30 min. */
  heartbeatIntervalMs?: number;
  /** How long after its end an executor's death is noticed. Default 100 (measured on a real agent). */
  reapDelayMs?: number;
  /** True: executors must present a JWT, signed with a key of our own or the given one. */
  authentication?: boolean | { key: string };
  framework?: { id?: string; name?: string; user?: string; capabilities?: readonly string[] };
  /**
   * "linux" (default) kills everything that an executor ever started, double-forked daemons too, as the agent's cgroup does;
   * "posix" only its session and descendants.
   */
  launcher?: "linux" | "posix";
  /** `--executor_environment_variables`: added to every executor's environment. */
  executorEnvironment?: Record<string, string>;
}

/** Options with every default filled in. */
export interface ResolvedOptions {
  hostname: string;
  checkpoint: boolean;
  recoveryTimeoutMs: number;
  reregistrationTimeoutMs: number;
  registrationTimeoutMs: number;
  executorShutdownGraceMs: number;
  heartbeatIntervalMs: number;
  reapDelayMs: number;
  launcher: "linux" | "posix";
  workDirectory: string;
  executorEnvironment: Record<string, string>;
}

const MINUTE = 60_000;

export function resolveOptions(options: LocalAgentOptions): ResolvedOptions {
  return {
    hostname: options.hostname ?? "127.0.0.1",
    checkpoint: options.checkpoint ?? false,
    recoveryTimeoutMs: options.recoveryTimeoutMs ?? 15 * MINUTE,
    reregistrationTimeoutMs: options.reregistrationTimeoutMs ?? 2_000,
    registrationTimeoutMs: options.registrationTimeoutMs ?? MINUTE,
    executorShutdownGraceMs: options.executorShutdownGraceMs ?? 5_000,
    heartbeatIntervalMs: options.heartbeatIntervalMs ?? 30 * MINUTE,
    reapDelayMs: options.reapDelayMs ?? 100,
    launcher: options.launcher ?? "linux",
    workDirectory: options.workDirectory,
    executorEnvironment: options.executorEnvironment ?? {},
  };
}
