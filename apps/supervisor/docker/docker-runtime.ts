import { TaskFailure } from "@berth/mesos";
import type { TaskInfo } from "@berth/mesos/task-info";
import { pause } from "@berth/retry";
import type { Observed, PlanInput, TaskIdentity } from "@berth/runtime";
import type { DockerEngine } from "@berth/runtime/docker/engine";
import { isNotFound } from "@berth/runtime/docker/engine-errors";
import type { ImageReference } from "@berth/runtime/docker/image-reference";
import {
  CONTAINER_LABELS,
  type ContainerPlan,
  type CreateBody,
  createBody,
  type DockerTaskOptions,
  environmentRecord,
  ownedBy,
  planContainer,
} from "@berth/runtime/docker/plan";
import { ImageGone, type PlannedTask, type TaskRuntime } from "../task/runtime.ts";
import { type ContainerProcess, isGone, isProcessOf, signalDirectly } from "./container-process.ts";
import { cleanupRecord } from "./labels.ts";

/** What a SIGKILL that nobody here sent looks like: the kernel's, for want of memory, or a stranger's. */
const EXIT_BY_SIGKILL = 137;
/** How long dockerd gets to hear which of the two it was, milliseconds. */
const OOM_NEWS_MS = 300;

export interface DockerRuntimeParts {
  engine: DockerEngine;
  /** Everything about the task but its TaskInfo. */
  input: Omit<PlanInput<DockerTaskOptions>, "task">;
  /** Further labels that only the supervisor knows: worker's pid namespace, time of launch. */
  labels: Readonly<Record<string, string>>;
  /** The container's name before a plan is made (adoption). */
  name: string;
  /** Its id, where an earlier supervisor created it: found so whatever its name was then. */
  id: string | undefined;
  pullAttempts: number;
  /** Judges the create request by the host's policy: throws the TaskFailure that refuses it, or returns warnings. */
  judge: (plan: ContainerPlan, sandbox: string) => string[];
  /** The X-Registry-Auth header for an image; read anew at each pull. */
  registryAuth: (image: ImageReference, signal: AbortSignal) => Promise<string | undefined>;
}

/** How many containers of a taken name are discarded before the launch fails: something else keeps making them. */
const MAX_NAME_CONFLICTS = 3;

/** The `docker` runtime of one task: the plan, and what the reconciler's steps ask of dockerd. */
export class DockerRuntime implements TaskRuntime {
  readonly kind = "docker";
  readonly noun = "container";
  readonly #parts: DockerRuntimeParts;
  readonly #identity: TaskIdentity;
  #name: string;
  #plan: ContainerPlan | undefined;
  #added: Record<string, string> = {};
  #id: string | undefined;
  #stopSignal = "SIGTERM";
  #signalled = false;
  #askedForOom = false;

  constructor(parts: DockerRuntimeParts) {
    this.#parts = parts;
    this.#identity = parts.input.identity;
    this.#name = parts.name;
    this.#id = parts.id;
  }

  get name(): string {
    return this.#name;
  }

  plan(task: TaskInfo): PlannedTask {
    const { input, labels } = this.#parts;
    const extraLabels = { ...labels, [CONTAINER_LABELS.cleanup]: cleanupRecord(task), ...input.options.extraLabels };
    const plan = planContainer({ ...input, task, options: { ...input.options, extraLabels } });
    this.#plan = plan;
    this.#name = plan.name;
    const memory = plan.create.HostConfig.Memory;
    return {
      environment: environmentRecord(plan.environment),
      origins: Object.fromEntries(plan.environment.map(({ name, origin }) => [name, origin])),
      gracePeriodMs: plan.stopTimeoutMs,
      ...(memory === undefined || memory === 0 ? {} : { memoryLimitBytes: memory }),
      image: plan.image.written,
      warnings: [...plan.warnings],
    };
  }

  judge(): string[] {
    return this.#parts.judge(this.#planned(), this.#parts.input.sandbox);
  }

  /** The whole create request, for `berth plan`; the environment holds references as written. */
  get createRequest(): ContainerPlan["create"] | undefined {
    return this.#plan?.create;
  }

  addEnvironment(variables: Readonly<Record<string, string>>): void {
    Object.assign(this.#added, variables);
  }

  async pull(signal: AbortSignal, progress: (text: string) => void): Promise<void> {
    const plan = this.#planned();
    const reference = plan.image.written;
    if (!plan.forcePull && (await this.#parts.engine.imagePresent(reference, signal)) !== undefined) return;
    const auth = await this.#parts.registryAuth(plan.image, signal);
    progress(reference);
    const request = { reference, attempts: this.#parts.pullAttempts, ...(auth === undefined ? {} : { auth }) };
    await this.#parts.engine.pull(request, ({ message }) => progress(message), signal);
  }

  async create(environment: Readonly<Record<string, string>>, signal: AbortSignal): Promise<void> {
    const plan = this.#planned();
    const all = { ...environment, ...this.#added };
    const body = createBody(
      plan,
      Object.entries(all).map(([name, value]) => ({ name, value })),
    );
    const id = await this.#createOrReplace(plan, body, signal).catch((error: unknown) => {
      throw isNotFound(error) && /no such image/i.test(String(error)) ? new ImageGone(`image ${plan.image.written} is gone again`) : error;
    });
    this.#id = id;
    for (const { network, endpointConfig } of plan.networksToConnect) {
      await this.#parts.engine.connectNetwork({ id, network, endpointConfig: { ...endpointConfig } }, signal);
    }
  }

  async #createOrReplace(plan: ContainerPlan, body: CreateBody, signal: AbortSignal): Promise<string> {
    for (let attempt = 0; attempt < MAX_NAME_CONFLICTS; attempt++) {
      const platform = plan.platform === undefined ? {} : { platform: plan.platform };
      const result = await this.#parts.engine.create({ name: plan.name, body: { ...body }, ...platform }, signal);
      if (result.conflict === undefined) return result.id;
      if (!ownedBy(result.conflict.labels, this.#identity)) {
        throw new TaskFailure(
          `container name ${plan.name} is taken by a container that does not belong to this task; remove it (docker rm ${plan.name}) and launch again`,
        );
      }
      // When in doubt keep: one that runs or ran is looked at by the reconciler, never replaced by a second.
      if (result.conflict.status !== "created") return result.conflict.id;
      // Ours, from a create whose answer was lost or from an earlier life: never started, so it is made anew with today's secrets.
      await this.#parts.engine.remove(result.conflict.id, { force: true, volumes: true }, signal);
    }
    throw new TaskFailure(`container name ${plan.name} is still taken after ${MAX_NAME_CONFLICTS} attempts to free it`);
  }

  async start(signal: AbortSignal): Promise<void> {
    await this.#parts.engine.start(this.#reference, signal);
  }

  async inspect(signal?: AbortSignal): Promise<Observed> {
    const summary = await this.#parts.engine.inspect(this.#reference, signal);
    if (summary === undefined || !ownedBy(summary.labels, this.#identity)) return { state: "absent" };
    this.#id = summary.id;
    this.#stopSignal = summary.stopSignal ?? "SIGTERM";
    const { state } = summary;
    const perhapsOom = state.state === "exited" && state.exit.exitCode === EXIT_BY_SIGKILL && !state.exit.oomKilled && !this.#signalled;
    if (!perhapsOom || this.#askedForOom) return state;
    // dockerd hears of an OOM kill from the kernel apart from the exit, and at times a moment later.
    this.#askedForOom = true;
    await pause(OOM_NEWS_MS, signal);
    return (await this.#parts.engine.inspect(summary.id, signal))?.state ?? state;
  }

  async signal(signal: "SIGTERM" | "SIGKILL", abort?: AbortSignal): Promise<void> {
    this.#signalled = true;
    await this.#parts.engine.signal(this.#reference, this.#signalName(signal), abort);
  }

  environmentOf(names: readonly string[]): Promise<Record<string, string>> {
    return this.#parts.engine.environmentOf(this.#reference, names);
  }

  pidOf(observed: Observed): number | undefined {
    return observed.state === "running" && isProcessOf(observed) ? observed.pid : undefined;
  }

  glimpse(process: ContainerProcess): "running" | "gone" {
    return isGone(process) ? "gone" : "running";
  }

  signalDirectly(process: ContainerProcess, signal: "SIGTERM" | "SIGKILL"): boolean {
    return signalDirectly(process, this.#signalName(signal));
  }

  #signalName(signal: "SIGTERM" | "SIGKILL"): string {
    return signal === "SIGTERM" ? this.#stopSignal : signal;
  }

  async remove(): Promise<void> {
    try {
      const summary = await this.#parts.engine.inspect(this.#reference);
      this.#id = undefined;
      if (summary === undefined || !ownedBy(summary.labels, this.#identity)) return;
      await this.#parts.engine.remove(summary.id, { force: true, volumes: true });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  title(observed: Observed): string {
    const id = observed.state === "absent" ? "" : observed.id.slice(0, 12);
    return `berth-worker ${id} (${this.#plan?.image.written ?? this.#identity.taskId})`;
  }

  get #reference(): string {
    return this.#id ?? this.#name;
  }

  #planned(): ContainerPlan {
    if (this.#plan === undefined) throw new Error("the task has no plan yet");
    return this.#plan;
  }
}
