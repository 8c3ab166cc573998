import { pause } from "@berth/retry";
import type { TaskIdentity } from "@berth/runtime";
import type { DockerEngine, ListedContainer } from "@berth/runtime/docker/engine";
import type { Executors } from "../executor/executors.ts";
import { lifeOf } from "../executor/process-life.ts";
import { killTaskProcesses } from "../process/marked-processes.ts";
import { orphanedCgroups } from "../process/task-cgroups.ts";
import type { TaskLog } from "../task/ports.ts";
import { identityOf, orphanFromLabels } from "./labels.ts";

export interface ReaperParts {
  engine: DockerEngine;
  executors: Executors;
  /** `key=value` that only this supervisor's containers carry. */
  instanceLabel: string;
  /** Counted from the daemon's readiness: how long a worker that cannot be checked has to come back, milliseconds. */
  adoptionWindowMs: number;
  /** How long the container of a failed task is kept for a post-mortem, milliseconds; infinite where no container is ever removed. */
  keepFailedMs: number;
  now: () => number;
  /** Milliseconds that no setting of the host's clock moves. */
  monotonic: () => number;
  log: TaskLog;
}

/** How often the host is searched for containers that nobody looks after, milliseconds. */
const SWEEP_INTERVAL_MS = 30_000;
/** While workers may still be coming back the search is frequent: a worker that died together with berthd is noticed soon. */
const EARLY_SWEEP_INTERVAL_MS = 1000;

/**
 * Finds containers of ours that no worker speaks for, and has them stopped and removed by the same reconciler as any task.
 *
 * INVARIANTS: a container is left alone while its worker's process is seen alive, while the adoption window runs and the
 * process cannot be checked, and always when in doubt: a leaked container is better than a task that was killed by mistake.
 */
export class Reaper {
  readonly #parts: ReaperParts;
  readonly #stop = new AbortController();
  #readySince = 0;
  #warned = new Set<string>();
  /** Containers without a task that the last search has seen beside a worker that is well. */
  #leftovers = new Set<string>();

  constructor(parts: ReaperParts) {
    this.#parts = parts;
  }

  /** Begins to search; the adoption window runs from now. */
  start(): void {
    this.#readySince = this.#parts.monotonic();
    void this.#sweepForever();
  }

  stop(): void {
    this.#stop.abort();
  }

  async #sweepForever(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        await this.#reapProcesses();
        await this.sweep();
      } catch (error) {
        this.#parts.log.debug({ err: error }, "the search for orphaned containers did not work");
      }
      const early = this.#parts.monotonic() - this.#readySince < this.#parts.adoptionWindowMs + EARLY_SWEEP_INTERVAL_MS;
      await pause(early ? EARLY_SWEEP_INTERVAL_MS : SWEEP_INTERVAL_MS, this.#stop.signal).catch(() => {});
    }
  }

  /** Processes of command tasks whose worker died while no supervisor was there to see it. */
  async #reapProcesses(): Promise<void> {
    const cgroups = await orphanedCgroups();
    const killed = await killTaskProcesses({ mark: (mark) => lifeOf(mark.worker) === "gone", cgroups });
    if (killed > 0) this.#parts.log.warn({ killed }, "processes of command tasks were left by workers that are gone; they are killed");
  }

  /** One search over all containers that carry our labels. One that cannot be looked at does not keep the others from it. */
  async sweep(): Promise<void> {
    const containers = await this.#parts.engine.list([this.#parts.instanceLabel], this.#stop.signal);
    const before = this.#leftovers;
    this.#leftovers = new Set();
    const present = new Set(containers.map(({ id }) => id));
    for (const id of this.#warned) if (!present.has(id)) this.#warned.delete(id);
    for (const container of containers) {
      const identity = identityOf(container.labels);
      if (identity === undefined || this.#parts.executors.find(identity) !== undefined) continue;
      try {
        await this.#lookAfter(identity, container, before);
      } catch (error) {
        this.#parts.log.debug({ name: container.name, err: error }, "a container could not be looked at; it is left alone for now");
      }
    }
  }

  async #lookAfter(identity: TaskIdentity, container: ListedContainer, seenBefore: ReadonlySet<string>): Promise<void> {
    const holder = this.#parts.executors.holderOf(identity);
    if (holder === undefined || holder.presence === "dead") {
      // Asked again at the last moment: the worker may have come back while the container was looked at.
      if ((await this.#isOrphan(identity, container)) && this.#parts.executors.find(identity) === undefined)
        this.#reap(identity, container);
      return;
    }
    // A worker that is well has told of all its tasks, and this one is not among them: it is over. What runs is left alone all the same.
    if (holder.presence !== "connected") return;
    if (container.status === "running" || container.status === "paused")
      return this.#warnOnce(identity, container, "a container runs whose worker knows nothing of its task; it is left alone");
    if (await this.#isKept(container)) return;
    this.#leftovers.add(container.id);
    if (!seenBefore.has(container.id) || this.#parts.executors.find(identity) !== undefined) return;
    this.#parts.log.info(
      { taskId: identity.taskId, name: container.name, status: container.status },
      "a container of a task that is over is removed",
    );
    await this.#parts.engine.remove(container.id, { volumes: true });
  }

  #warnOnce(identity: TaskIdentity, { id, name, labels }: ListedContainer, message: string): void {
    if (this.#warned.has(id)) return;
    this.#warned.add(id);
    this.#parts.log.warn({ taskId: identity.taskId, name, pid: orphanFromLabels(identity, labels).hello.pid }, message);
  }

  async #isOrphan(identity: TaskIdentity, container: ListedContainer): Promise<boolean> {
    const { hello } = orphanFromLabels(identity, container.labels);
    const life = lifeOf(hello);
    if (life === "gone") return !(await this.#isKept(container));
    const overdue = this.#parts.monotonic() - this.#readySince > this.#parts.adoptionWindowMs;
    if (life === "unknown") return overdue && !(await this.#isKept(container));
    if (overdue && container.status === "running")
      this.#warnOnce(identity, container, "a container's worker lives but does not connect; it is left alone");
    return false;
  }

  /** A failed task's container that is kept for a look at it. */
  async #isKept(container: ListedContainer): Promise<boolean> {
    const { keepFailedMs } = this.#parts;
    if (keepFailedMs === Number.POSITIVE_INFINITY) return container.status === "exited" || container.status === "created";
    if (keepFailedMs <= 0 || container.status !== "exited") return false;
    const state = (await this.#parts.engine.inspect(container.id))?.state;
    if (state?.state !== "exited" || state.exit.exitCode === 0) return false;
    return this.#parts.now() - state.exit.finishedAt < keepFailedMs;
  }

  #reap(identity: TaskIdentity, container: ListedContainer): void {
    const { hello } = orphanFromLabels(identity, container.labels);
    this.#parts.log.warn(
      { taskId: identity.taskId, name: container.name, status: container.status, pid: hello.pid },
      "a container's worker is gone; it is stopped and removed",
    );
    this.#parts.executors.adoptDead(hello);
  }
}
