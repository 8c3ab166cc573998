import { hostname } from "node:os";
import type { HostInfo } from "@berth/admin-api";
import { createHealthWatches } from "@berth/health";
import { builtInHooks, enforcePolicy, type Hook, HookRunner, judgePlan } from "@berth/hooks";
import { LogLane, type LogPosition } from "@berth/logrelay";
import { SecretRegistry } from "@berth/redact";
import type { TaskIdentity } from "@berth/runtime";
import { DockerEngine } from "@berth/runtime/docker/engine";
import { dockerEndpoint } from "@berth/runtime/docker/engine-endpoint";
import { CONTAINER_LABELS, type ContainerPlan } from "@berth/runtime/docker/plan";
import { SidecarLane } from "@berth/sidecar";
import { VaultLane, vaultSettingsFrom } from "@berth/vault";
import { createAdminServer } from "./admin/http.ts";
import { Counter, LoopLag } from "./admin/metrics.ts";
import { planView } from "./admin/plan-view.ts";
import { adminRoutes } from "./admin/routes.ts";
import { connectEngine } from "./docker/engine-events.ts";
import { Reaper } from "./docker/reaper.ts";
import { EventJournal } from "./event-journal.ts";
import { Executors } from "./executor/executors.ts";
import { WorkerServer } from "./executor/worker-server.ts";
import { hostMetrics } from "./host-metrics.ts";
import { berthGroupId, listen, socketSources } from "./listen.ts";
import { createLog, type Logger } from "./log.ts";
import { taskLogOptions } from "./logs/log-options.ts";
import { TaskLogs } from "./logs/task-logs.ts";
import { answerSchedulerMessage } from "./scheduler-messages.ts";
import { VaultSecrets } from "./secrets/vault-secrets.ts";
import { ServiceManager } from "./service-manager.ts";
import type { HostSettings } from "./settings.ts";
import { type Keep, SIDECAR_HOOK } from "./sidecar/kept.ts";
import { sidecarHost } from "./sidecar/service.ts";
import { sidecarHook } from "./sidecar/sidecar-hook.ts";
import { SidecarWatch } from "./sidecar/sidecar-watch.ts";
import type { Task } from "./task/task.ts";
import { withoutSecrets } from "./task/task-secrets.ts";
import { within } from "./task/within.ts";
import { TaskFactory } from "./task-factory.ts";
import { identityOfKey, taskKey } from "./task-key.ts";
import { VERSION } from "./version.ts";
import { certificateHook, certificateWatch } from "./watches/certificate.ts";
import { completionTimeWatch } from "./watches/completion-time.ts";

/** How long `berth inspect` waits for the log thread. */
const LOG_STATISTICS_MS = 2_000;

/**
 * berthd: the composition root. Everything that the daemon consists of is made in the constructor, in the order in which it
 * depends on each other, and handed to what needs it; nothing is looked up.
 */
export class Supervisor {
  readonly #settings: HostSettings;
  readonly #log: Logger;
  readonly #systemd: ServiceManager;
  readonly #engine: DockerEngine;
  readonly #vault: VaultLane;
  readonly #executors: Executors;
  readonly #workers: WorkerServer;
  readonly #admin: ReturnType<typeof createAdminServer>;
  readonly #reaper: Reaper;
  #host: { cpus: number; memoryBytes: number } | undefined;
  /** Worker threads that are open, to be ended in order. */
  readonly #closers: Array<() => Promise<void>> = [];
  #stopping = false;

  constructor(
    settings: HostSettings,
    userHooks: readonly Hook[] = [],
    environment: Readonly<Record<string, string | undefined>> = process.env,
  ) {
    const now = Date.now;
    const startedAt = now();
    this.#settings = settings;
    const secrets = new SecretRegistry();
    const log = createLog({ level: settings.logLevel, format: settings.logFormat, mask: (line) => secrets.mask(line) });
    this.#log = log;
    this.#systemd = new ServiceManager(environment, log);
    const journal = new EventJournal();
    const transitions = new Counter();
    const lag = new LoopLag();

    // Several supervisors may share one engine (tests, a laptop): each looks only at what carries its own socket's name.
    const instanceLabel = `${CONTAINER_LABELS.instance}=${settings.socket}`;
    const engine = new DockerEngine({
      endpoint: dockerEndpoint(settings.environment),
      watchLabel: instanceLabel,
      log,
      limits: { calls: settings.configured.dockerConnections },
      maxHeapMb: mebibytes(settings.configured.dockerThreadHeap),
    });
    this.#engine = engine;

    const vault = VaultLane.open({
      settings: vaultSettingsFrom(settings.environment),
      log,
      secrets,
      maxHeapMb: mebibytes(settings.configured.vaultThreadHeap),
    });
    this.#vault = vault;
    vault.on("leaseLost", ({ taskKey: key, reason }) => {
      this.#findTask(key)?.stop("lease-ended", reason);
    });
    vault.on("leases", ({ taskKey: key, leases }) => {
      this.#findTask(key)?.keepLeases(leases);
    });

    const sidecar = this.#openSidecar(settings, secrets);
    const logs = this.#openLogs(settings);
    const rangeFor = (env: Readonly<Record<string, string>>): number => settings.taskOptions(env).settings.randomExpirationRange;
    const certificates = {
      rangeFor,
      resolve: async (identity: TaskIdentity, reference: string, signal: AbortSignal) => {
        const options = { awsRole: "", awsRoleTtlMs: 0 };
        // Under its own name: the error tells which variable it was.
        const { environment } = await new VaultSecrets(vault, secrets, identity, options).resolve(
          { CERTIFICATE: reference },
          signal,
          () => {},
        );
        return environment.CERTIFICATE;
      },
      now,
    };
    const builtIn = builtInHooks(settings.hooks, { environment: settings.environment });
    const hooks = new HookRunner(
      [certificateHook(certificates), ...builtIn, ...userHooks, ...(sidecar === undefined ? [] : [sidecar.hook])],
      log,
    );
    const { health, check, close } = createHealthWatches({ exec: (request, signal) => engine.exec(request, signal), now, log });
    this.#closers.push(async () => close());
    const checks = settings.configured.healthChecks ? [health, check] : [];
    const judge = (plan: ContainerPlan, sandbox: string): string[] =>
      enforcePolicy(judgePlan(plan.create, plan.image, settings.policy, { sandbox }));
    const factory = new TaskFactory({
      engine,
      hooks,
      journal,
      transitions,
      now,
      log,
      optionsFor: (executorEnvironment) => {
        const options = settings.taskOptions(executorEnvironment);
        return this.#host === undefined ? options : { ...options, docker: { ...options.docker, host: this.#host } };
      },
      registryAuth: settings.registryAuth,
      keepsContainer: (outcome, finishedAt = 0) =>
        !settings.removeContainers || (outcome.state === "TASK_FAILED" && now() - finishedAt < settings.keepFailedMs),
      secretsFor: (identity, options) => new VaultSecrets(vault, secrets, identity, options),
      logsFor: (executor, identity, options, task, runtime, kept) => {
        const facts = { executorId: identity.executorId, task, hostname: executor.hello.agentHostname || hostname() };
        const compiled = taskLogOptions(settings.configured, options, settings.logSinks, facts);
        const position = kept as LogPosition | undefined;
        return new TaskLogs({ lane: logs, engine, executor, identity, runtime, options: compiled, position, now, log });
      },
      judge,
      watchesFor: (executor, options) => {
        const host = sidecarHost(
          { executorEnvironment: executor.hello.environment, agentHostname: executor.hello.agentHostname },
          options.settings.taskHost,
        );
        return [
          completionTimeWatch(now),
          certificateWatch(certificates, executor.hello.environment),
          ...checks,
          ...(sidecar === undefined ? [] : [sidecar.watch.forTask(options, host)]),
        ];
      },
    });
    const executors = new Executors({
      createTask: (executor, record, task) => factory.create(executor, record, task),
      onSchedulerMessage: (executor, data) => answerSchedulerMessage(executor, data, { version: VERSION, log }),
      adoptionWindowMs: settings.adoptionWindowMs,
      version: VERSION,
      monotonic: () => performance.now(),
      log,
    });
    this.#executors = executors;
    engine.on("up", () => void this.#learnHost());
    connectEngine(engine, executors, log);
    this.#reaper = new Reaper({
      engine,
      executors,
      instanceLabel,
      adoptionWindowMs: settings.adoptionWindowMs,
      keepFailedMs: settings.removeContainers ? settings.keepFailedMs : Number.POSITIVE_INFINITY,
      now,
      monotonic: () => performance.now(),
      log,
    });
    this.#workers = new WorkerServer(executors, log);
    const routes = adminRoutes({
      executors,
      journal,
      version: VERSION,
      startedAt,
      now,
      plan: (task) => planView(withoutSecrets(task), settings.taskOptions({}), { hooks: hooks.hooks, judge, hostname: hostname() }),
      hooks: () =>
        hooks.hooks.map(({ name, priority, timeoutMs, failsTask, stages }) => ({
          name,
          priority,
          timeoutMs,
          failsTask,
          stages: Object.keys(stages),
        })),
      settings: () => settings.describe(),
      vault: () => vault.status(),
      sidecar: (identity) => sidecar?.watch.view(identity) ?? null,
      dependencies: () => ({
        dockerd: engine.health.up ? { ready: true, detail: engine.url } : { ready: false, detail: engine.health.reason },
      }),
      details: async () => {
        const [docker, reader] = await Promise.all([engine.statistics().catch(() => null), sidecar?.status().catch(() => null) ?? null]);
        return { docker, sidecar: reader };
      },
      logsOf: async (task) => {
        const { tasks } = await within(LOG_STATISTICS_MS, () => logs.stats());
        return tasks.find(({ taskKey: key }) => key === taskKey(task.identity));
      },
      metrics: () => hostMetrics({ executors, engine, vault, logs, transitions, lag, version: VERSION }),
    });
    this.#admin = createAdminServer(routes, log, (text) => secrets.mask(text));
  }

  #openLogs(settings: HostSettings): LogLane {
    const docker = dockerEndpoint(settings.environment);
    const lane = LogLane.open({ docker, log: this.#log, maxHeapMb: mebibytes(settings.configured.logThreadHeap) });
    this.#closers.push(() => lane.close());
    lane.on("positions", (batch) => {
      for (const { taskKey: key, position } of batch) this.#keepLogPosition(identityOfKey(key), position);
    });
    lane.on("output", ({ taskKey: key, stream, bytes, done }) => {
      const executor = this.#executors.executorOf(identityOfKey(key));
      if (executor === undefined) done();
      else void executor.sandboxOutput.give(stream, bytes).then(done);
    });
    lane.on("problem", ({ taskKey: key, problem }) => this.#log.warn({ task: key, problem: problem ?? "well again" }, "a task's output"));
    return lane;
  }

  /** In this order: what the worker may forget must be in the checkpoint that it holds. */
  #keepLogPosition(identity: TaskIdentity, position: LogPosition): void {
    this.#executors.find(identity)?.keepLogPosition(position);
    if (position.kind !== "pushed") return;
    const { stdout, stderr } = position;
    this.#executors.executorOf(identity)?.send({ type: "taken", taskId: identity.taskId, stdout, stderr });
  }

  #findTask(key: string): Task | undefined {
    return this.#executors.find(identityOfKey(key));
  }

  #openSidecar(
    settings: HostSettings,
    secrets: SecretRegistry,
  ): { status: () => Promise<HostInfo["sidecar"]>; watch: SidecarWatch; hook: Hook } | undefined {
    const { configured } = settings;
    if (!configured.sidecar) return undefined;
    const lane = SidecarLane.open({
      settings: { url: configured.sidecarUrl, timeoutMs: configured.httpTimeout, watch: configured.sidecarWatch },
      log: this.#log,
      maxHeapMb: mebibytes(configured.sidecarThreadHeap),
    });
    this.#closers.push(() => lane.close());
    const keep: Keep = (identity, state) => this.#executors.find(identity)?.keepHookState(SIDECAR_HOOK, state);
    const watch = new SidecarWatch(lane, { keep, now: Date.now });
    const hook = sidecarHook({
      lane,
      keep,
      optionsFor: (environment) => settings.taskOptions(environment),
      mesos: {
        agent: configured.mesosAgent,
        masterPort: configured.mesosMasterPort,
        credential: configured.mesosCredential,
        ca: configured.mesosCa,
        hide: (secret) => secrets.add(secret, "mesosCredential", { holder: "mesosCredential" }),
      },
      retryCount: configured.sidecarRetryCount,
      retryDelayMs: configured.sidecarRetryDelay,
    });
    const status = async (): Promise<HostInfo["sidecar"]> => {
      const { tasks, ...reader } = await lane.status(AbortSignal.timeout(STATUS_PATIENCE_MS));
      return { ...reader, tasks: tasks.length };
    };
    return { status, watch, hook };
  }

  /** Every setting and where it came from: the first thing that one asks of a daemon that does not do what it should. */
  #printSettings(): void {
    for (const warning of this.#settings.warnings) this.#log.warn({ warning }, "a setting is not as it should be");
    const rows = this.#settings.describe();
    this.#log.info({ settings: rows.filter(({ origin }) => origin !== "default") }, "settings that differ from the defaults");
    this.#log.debug({ settings: rows }, "all settings");
  }

  /** What the engine's machine has, for shares and OOM scores. */
  async #learnHost(): Promise<void> {
    try {
      const { cpus, memoryBytes, warnings } = await this.#engine.info();
      this.#host = { cpus, memoryBytes };
      for (const warning of warnings) this.#log.warn({ warning }, "dockerd warns");
    } catch (error) {
      this.#log.warn({ err: error }, "dockerd could not be asked what its host has");
    }
  }

  /** Serves the sockets. Returns when workers and operators can connect; dockerd may still be away. */
  async start(): Promise<void> {
    const { socket, adminSocket } = this.#settings;
    this.#printSettings();
    const sources = socketSources(process.env, { workers: socket, admin: adminSocket });
    const groupId = berthGroupId();
    void this.#engine.watch().catch((error: unknown) => this.#log.warn({ err: error }, "the Docker event stream could not be opened"));
    // Admin last: whoever gets an answer there knows that workers are served too.
    await listen(this.#workers.server, sources.workers, groupId);
    await listen(this.#admin, sources.admin, groupId);
    this.#reaper.start();
    this.#systemd.ready(`serving ${socket}`);
    this.#log.info({ socket, pid: process.pid, version: VERSION, node: process.version }, "berthd is ready");
  }

  /** Ends the daemon and nothing else: tasks run on, and their workers come back to the next supervisor. */
  async stop(why: string): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#log.info({ why, tasks: [...this.#executors.tasks()].length }, "berthd stops; tasks run on");
    this.#systemd.stopping();
    this.#reaper.stop();
    this.#executors.dispose();
    this.#admin.close();
    this.#admin.closeAllConnections();
    await this.#workers.close();
    await Promise.all([this.#engine.close(), this.#vault.close(), ...this.#closers.map((close) => close())]);
    process.exit(0);
  }
}

/** `berth info` waits no longer than this for a thread that is busy. */
const STATUS_PATIENCE_MS = 1000;

function mebibytes(bytes: number): number {
  return Math.max(16, Math.round(bytes / 1024 / 1024));
}
