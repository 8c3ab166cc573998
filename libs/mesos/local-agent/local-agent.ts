import { randomBytes, randomUUID } from "node:crypto";
import { mkdirSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type AgentPhase, Dispatcher } from "./dispatcher.ts";
import { executorEnvironment, formatMesosDuration } from "./environment.ts";
import { type ExecutorContext, LocalExecutor } from "./executor.ts";
import { ExecutorProcess, type ProcessSpec } from "./executor-process.ts";
import { AgentFaults, type RestartOptions } from "./faults.ts";
import { HttpFront } from "./http-front.ts";
import { type LocalAgentOptions, type ResolvedOptions, resolveOptions } from "./options.ts";
import { withExecutorDefaults } from "./task-defaults.ts";
import { signToken } from "./token.ts";

export interface StartExecutorOptions {
  executorId: string;
  /** Default: the agent's one framework. Another one is made known on first use. */
  frameworkId?: string;
  /** A shell command line. Write `exec …` to have the executor's own exit status, as frameworks do. */
  command: string;
  /** The command's environment: together with the agent's variables all that the executor gets, not even PATH is added. */
  environment?: Record<string, string>;
  /** More of the ExecutorInfo (labels, resources, data, shutdown_grace_period, command.shell: false with arguments, …). */
  executorInfo?: Record<string, unknown>;
}

/**
 * A Mesos agent in this process, as an executor sees it: it starts executors as real processes in a sandbox, serves them the v1
 * executor API and answers every call as a real agent does. It is its own master and scheduler: what the scheduler would see
 * comes out of {@link LocalExecutor}.
 */
export class LocalAgent implements AsyncDisposable {
  readonly agentId: string;
  readonly frameworkId: string;
  readonly faults: AgentFaults;
  readonly options: ResolvedOptions;
  readonly domainSocketPath: string | undefined;
  readonly #framework: NonNullable<LocalAgentOptions["framework"]>;
  readonly #key: string | undefined;
  readonly #front: HttpFront;
  readonly #known = new Set<string>();
  /** Every run ever started, so that `stop` leaves no process. */
  readonly #runs = new Set<LocalExecutor>();
  #phase: AgentPhase = "down";
  #alive = Promise.withResolvers<void>();

  private constructor(options: LocalAgentOptions) {
    this.options = resolveOptions({ ...options, workDirectory: resolve(options.workDirectory) });
    const cluster = randomUUID();
    this.agentId = `${cluster}-S0`;
    this.frameworkId = options.framework?.id ?? `${cluster}-0000`;
    this.#known.add(this.frameworkId);
    this.#framework = options.framework ?? {};
    this.#key = keyOf(options.authentication);
    this.domainSocketPath = socketPath(options, this.options.workDirectory);
    this.faults = new AgentFaults({
      executors: () => this.#runs,
      port: () => this.port,
      restart: (restart) => this.#restart(restart),
    });
    const dispatcher = new Dispatcher({
      phase: () => this.#phase,
      delivery: () => this.faults.delivery,
      key: this.#key,
      isFramework: (frameworkId) => this.#known.has(frameworkId),
      findExecutor: (frameworkId, executorId) => this.#find(frameworkId, executorId),
      fault: (type) => this.faults.take(type),
    });
    const front = { domainSocketPath: this.domainSocketPath, tls: options.tls };
    this.#front = new HttpFront(front, (request, body, response, transport) => dispatcher.handle(request, body, response, transport));
  }

  /** Starts an agent on a free port of 127.0.0.1. */
  static async start(options: LocalAgentOptions): Promise<LocalAgent> {
    const agent = new LocalAgent(options);
    mkdirSync(agent.options.workDirectory, { recursive: true });
    await agent.#front.open();
    agent.#setPhase("running");
    return agent;
  }

  get port(): number {
    return this.#front.port;
  }

  /** `host:port`, the executors' MESOS_AGENT_ENDPOINT. */
  get endpoint(): string {
    return `127.0.0.1:${this.port}`;
  }

  get phase(): AgentPhase {
    return this.#phase;
  }

  /** All executors started so far, ended ones too. */
  get executors(): LocalExecutor[] {
    return [...this.#runs];
  }

  /** Starts an executor's process. Synchronous, so that tasks can be queued before it subscribes. */
  startExecutor(options: StartExecutorOptions): LocalExecutor {
    const { executorId, frameworkId = this.frameworkId } = options;
    if (this.#find(frameworkId, executorId) !== undefined)
      throw new Error(`executor ${executorId} of framework ${frameworkId} runs already`);
    this.#known.add(frameworkId);
    const containerId = randomUUID();
    const run = ["slaves", this.agentId, "frameworks", frameworkId, "executors", executorId, "runs", containerId];
    const sandbox = join(this.options.workDirectory, ...run);
    mkdirSync(sandbox, { recursive: true });
    const executorInfo = this.#executorInfo(options, frameworkId);
    const command = executorInfo.command as ProcessSpec["command"] & {
      environment?: { variables: Array<{ name: string; value?: string }> };
    };
    const shutdownGraceMs = graceOf(executorInfo) ?? this.options.executorShutdownGraceMs;
    const token = this.#key === undefined ? undefined : signToken({ fid: frameworkId, eid: executorId, cid: containerId }, this.#key);
    const environment = executorEnvironment(
      {
        frameworkId,
        executorId,
        agentId: this.agentId,
        endpoint: this.endpoint,
        sandbox,
        shutdownGraceMs,
        token,
        domainSocketPath: this.domainSocketPath,
        command: Object.fromEntries((command.environment?.variables ?? []).map(({ name, value = "" }) => [name, value])),
      },
      this.options,
    );
    const process = new ExecutorProcess({ command, sandbox, environment, launcher: this.options.launcher });
    const identity = { executorId, frameworkId, containerId, sandbox, executorInfo, shutdownGraceMs, token, environment };
    const executor = new LocalExecutor(identity, process, this.#context(frameworkId));
    this.#runs.add(executor);
    return executor;
  }

  /** Destroys every executor with all its processes and closes the endpoint. Sandboxes stay. Safe to call twice. */
  async stop(): Promise<void> {
    if (this.#phase === "down") this.#setPhase("running");
    await Promise.all([...this.#runs].map((executor) => executor.destroy()));
    await this.#front.close();
    if (this.domainSocketPath !== undefined) rmSync(this.domainSocketPath, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #find(frameworkId: string, executorId: string): LocalExecutor | undefined {
    for (const run of this.#runs) {
      const same = run.frameworkId === frameworkId && run.executorId === executorId;
      if (same && run.state !== "TERMINATED" && run.state !== "FORGOTTEN") return run;
    }
    return undefined;
  }

  async #restart({ recover = true, downMs = 0, startingMs = 20, recoveringMs = 20 }: RestartOptions): Promise<void> {
    this.#alive = Promise.withResolvers<void>();
    this.#setPhase("down");
    await this.#front.close();
    const recovered = recover !== false && this.options.checkpoint;
    for (const run of this.#runs) run.agentRestarted(recovered);
    if (!recovered) this.#known.clear();
    if (downMs > 0) await sleep(downMs);
    await this.#front.open();
    this.#setPhase("starting");
    await sleep(startingMs);
    this.#setPhase("recovering");
    await sleep(recoveringMs);
    if (recover === "cleanup") for (const run of this.#runs) run.cleanUp();
    this.#setPhase("reregistering");
    await sleep(this.options.reregistrationTimeoutMs);
    await this.#destroyLatecomers();
    this.#setPhase("running");
  }

  async #destroyLatecomers(): Promise<void> {
    const state = this.#partitionAware() ? "TASK_GONE" : "TASK_LOST";
    const message = `Executor did not reregister within ${formatMesosDuration(this.options.reregistrationTimeoutMs)}`;
    const late = [...this.#runs].filter((run) => run.state === "REGISTERING");
    await Promise.all(late.map((run) => run.destroy({ state, reason: "REASON_EXECUTOR_REREGISTRATION_TIMEOUT", message })));
  }

  #setPhase(phase: AgentPhase): void {
    this.#phase = phase;
    if (phase === "reregistering" || phase === "running") this.#alive.resolve();
  }

  #partitionAware(): boolean {
    return (this.#framework.capabilities ?? ["TASK_KILLING_STATE", "PARTITION_AWARE"]).includes("PARTITION_AWARE");
  }

  #context(frameworkId: string): ExecutorContext {
    const { heartbeatIntervalMs, registrationTimeoutMs, reapDelayMs } = this.options;
    return {
      agentId: this.agentId,
      agentInfo: () => this.#agentInfo(),
      frameworkInfo: this.#frameworkInfo(frameworkId),
      partitionAware: this.#partitionAware(),
      heartbeatIntervalMs,
      registrationTimeoutMs,
      reapDelayMs,
      whenAlive: () => this.#alive.promise,
      acknowledgementsHeld: () => this.faults.acknowledgementsHeld,
    };
  }

  #agentInfo(): Record<string, unknown> {
    const resources = [
      { name: "cpus", type: "SCALAR", scalar: { value: 2 } },
      { name: "mem", type: "SCALAR", scalar: { value: 4096 } },
      { name: "disk", type: "SCALAR", scalar: { value: 4096 } },
      { name: "ports", type: "RANGES", ranges: { range: [{ begin: 31000, end: 32000 }] } },
    ];
    return { hostname: this.options.hostname, port: this.port, resources, id: { value: this.agentId } };
  }

  #frameworkInfo(frameworkId: string): Record<string, unknown> {
    const { name = "local", user = "root", capabilities = ["TASK_KILLING_STATE", "PARTITION_AWARE"] } = this.#framework;
    return {
      user,
      name,
      id: { value: frameworkId },
      failover_timeout: 0,
      checkpoint: this.options.checkpoint,
      roles: ["*"],
      capabilities: capabilities.map((type) => ({ type })),
    };
  }

  #executorInfo(
    { executorId, command, environment = {}, executorInfo = {} }: StartExecutorOptions,
    frameworkId: string,
  ): Record<string, unknown> {
    const variables = Object.entries(environment).map(([name, value]) => ({ name, type: "VALUE", value }));
    const given = (executorInfo.command ?? {}) as { environment?: { variables?: unknown[] } };
    const all = [...(given.environment?.variables ?? []), ...variables];
    return withExecutorDefaults({
      executor_id: { value: executorId },
      framework_id: { value: frameworkId },
      resources: [
        { name: "cpus", type: "SCALAR", scalar: { value: 0.1 }, allocation_info: { role: "*" } },
        { name: "mem", type: "SCALAR", scalar: { value: 32 }, allocation_info: { role: "*" } },
      ],
      name: executorId,
      ...executorInfo,
      command: { ...given, ...(all.length === 0 ? {} : { environment: { variables: all } }), value: command },
    });
  }
}

function keyOf(authentication: LocalAgentOptions["authentication"]): string | undefined {
  if (authentication === undefined || authentication === false) return undefined;
  return authentication === true ? randomBytes(32).toString("base64") : authentication.key;
}

function socketPath(options: LocalAgentOptions, workDirectory: string): string | undefined {
  if (options.transport !== "domain-socket") return undefined;
  const path = options.domainSocketPath ?? join(workDirectory, "agent.sock");
  if (Buffer.byteLength(path) >= 108) throw new Error(`the domain socket's path is too long (108 bytes is the limit): ${path}`);
  return path;
}

function graceOf(executorInfo: Record<string, unknown>): number | undefined {
  const grace = executorInfo.shutdown_grace_period as { nanoseconds?: number | bigint } | undefined;
  return grace?.nanoseconds === undefined ? undefined : Number(grace.nanoseconds) / 1e6;
}
