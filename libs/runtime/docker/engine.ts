import { EventEmitter } from "node:events";
import { Lane, type LaneLog } from "@berth/lane";
import { RecentEvents } from "./engine-recent.ts";
import type {
  ConnectNetworkRequest,
  ContainerEvent,
  ContainerSummary,
  CreateBody,
  CreateResult,
  EngineEvents,
  EngineInfo,
  EngineMethods,
  EngineStart,
  EngineStatistics,
  EngineVersion,
  ExecRequest,
  ExecResult,
  ListedContainer,
  LogsRequest,
  LogsResult,
  PullProgress,
  PullRequest,
  RemoveResult,
  SignalResult,
  StartResult,
} from "./engine-types.ts";

export interface DockerEngineOptions extends EngineStart {
  log: LaneLog;
  /** Heap limit of the thread in MiB. */
  maxHeapMb?: number;
}

/**
 * The host's one way to dockerd: a facade in the main thread over the thread that owns the connection pool and the event
 * stream. Containers may be named by id or by name everywhere.
 *
 * Every call has a deadline of its kind (engine-timeouts.ts) and rejects with a `DockerError`, with a `TaskFailure` where
 * dockerd said why the task cannot be run, or with `LaneLostError` when the thread died before it answered (the call may be
 * sent again). Aborting `signal` ends the wait, not what dockerd may already be doing.
 *
 * INVARIANTS: after the first `watch()` there is one event stream, also across thread restarts; whenever events may have been
 * missed, `resync` is emitted after the stream is open again.
 */
export class DockerEngine extends EventEmitter<EngineEvents> {
  readonly url: string;
  readonly #lane: Lane<EngineMethods>;
  readonly #progress = new Map<number, (progress: PullProgress) => void>();
  readonly #recent = new RecentEvents();
  #nextFollower = 1;
  #watching = false;
  #closed = false;
  #lastEvent: bigint | undefined;
  #health: EngineHealth = { up: false, since: Date.now(), reason: "not asked yet" };

  constructor(options: DockerEngineOptions) {
    super();
    this.url = options.endpoint.url;
    const { log, maxHeapMb, ...start } = options;
    this.#lane = new Lane<EngineMethods>({
      name: "docker",
      entry: new URL("./engine.thread.ts", import.meta.url),
      start: start satisfies EngineStart,
      log,
      ...(maxHeapMb === undefined ? {} : { maxHeapMb }),
    });
    this.#lane.on("container", (event: ContainerEvent) => {
      // A new thread does not know what the one before it has told.
      if (!this.#recent.add(event)) return;
      if (this.#lastEvent === undefined || event.timeNano > this.#lastEvent) this.#lastEvent = event.timeNano;
      this.emit("container", event);
    });
    this.#lane.on("resync", (detail: { reason: string }) => this.emit("resync", detail));
    this.#lane.on("up", (detail: { since: number }) => {
      const known = this.#health.up;
      this.#health = { up: true, since: detail.since };
      // A new thread finds dockerd up again, which for everybody else it has been all the time.
      if (!known) this.emit("up", detail);
    });
    this.#lane.on("down", (detail: { reason: string; since: number }) => {
      this.#health = { up: false, ...detail };
      this.emit("down", detail);
    });
    this.#lane.on("progress", ({ follow, progress }: { follow: number; progress: PullProgress }) => this.#progress.get(follow)?.(progress));
    this.#lane.on("restarted", () => void this.#resume());
  }

  /** Whether dockerd answers, and since when; false with a reason before the first `watch`. */
  get health(): EngineHealth {
    return this.#health;
  }

  /** How often the thread had to be replaced. */
  get restarts(): number {
    return this.#lane.restarts;
  }

  /** Opens the event stream and resolves when it is asked for; `up` tells when dockerd has answered. */
  async watch(): Promise<void> {
    this.#watching = true;
    await this.#lane.call("watch", this.#resumePoint());
  }

  ping(signal?: AbortSignal): Promise<void> {
    return this.#lane.call("ping", undefined, signal);
  }

  version(signal?: AbortSignal): Promise<EngineVersion> {
    return this.#lane.call("version", undefined, signal);
  }

  info(signal?: AbortSignal): Promise<EngineInfo> {
    return this.#lane.call("info", undefined, signal);
  }

  /** The id of the local image that `reference` names, or undefined. */
  imagePresent(reference: string, signal?: AbortSignal): Promise<string | undefined> {
    return this.#lane.call("imagePresent", { reference }, signal);
  }

  /**
   * Pulls an image; the same one asked for by several tasks with the same credentials is pulled once. Rejects with a
   * `TaskFailure` that names image and registry and says what to do. Errors that may pass are retried here.
   */
  async pull(request: PullRequest, onProgress?: (progress: PullProgress) => void, signal?: AbortSignal): Promise<{ imageId: string }> {
    if (onProgress === undefined) return await this.#lane.call("pull", request, signal);
    const follow = this.#nextFollower++;
    this.#progress.set(follow, onProgress);
    try {
      return await this.#lane.call("pull", { ...request, follow }, signal);
    } finally {
      this.#progress.delete(follow);
    }
  }

  /** Makes a container. A taken name is an answer (`conflict`), a missing image a DockerError that `isNotFound` knows. */
  create(request: { name: string; body: CreateBody; platform?: string }, signal?: AbortSignal): Promise<CreateResult> {
    return this.#lane.call("create", request, signal);
  }

  connectNetwork(request: ConnectNetworkRequest, signal?: AbortSignal): Promise<void> {
    return this.#lane.call("connectNetwork", request, signal);
  }

  /** Starts a created container. What keeps it from starting (port taken, command missing…) is a `TaskFailure`. */
  start(id: string, signal?: AbortSignal): Promise<StartResult> {
    return this.#lane.call("start", { id }, signal);
  }

  inspect(id: string, signal?: AbortSignal): Promise<ContainerSummary | undefined> {
    return this.#lane.call("inspect", { id }, signal);
  }

  /**
   * The values that these variables have in a container; those that it has not are left out. May hold secrets: for nothing but
   * to have them hidden again after a restart.
   */
  environmentOf(id: string, names: readonly string[], signal?: AbortSignal): Promise<Record<string, string>> {
    return this.#lane.call("environmentOf", { id, names }, signal);
  }

  /** Sends a signal ("SIGTERM", "SIGKILL" …) to the container's main process. */
  signal(id: string, signalName: string, signal?: AbortSignal): Promise<SignalResult> {
    return this.#lane.call("signal", { id, signal: signalName }, signal);
  }

  remove(id: string, options: { force?: boolean; volumes?: boolean } = {}, signal?: AbortSignal): Promise<RemoveResult> {
    return this.#lane.call("remove", { id, ...options }, signal);
  }

  /** Containers in any state that carry all these labels ("key" or "key=value"). */
  list(labels: readonly string[], signal?: AbortSignal): Promise<ListedContainer[]> {
    return this.#lane.call("list", { labels }, signal);
  }

  rename(id: string, name: string, signal?: AbortSignal): Promise<void> {
    return this.#lane.call("rename", { id, name }, signal);
  }

  /** Runs a command in a running container to its end, or kills it at its time limit. */
  exec(request: ExecRequest, signal?: AbortSignal): Promise<ExecResult> {
    return this.#lane.call("exec", request, signal);
  }

  /** What a container has written so far (never followed). */
  logs(request: LogsRequest, signal?: AbortSignal): Promise<LogsResult> {
    return this.#lane.call("logs", request, signal);
  }

  statistics(): Promise<EngineStatistics> {
    return this.#lane.call("statistics", undefined);
  }

  /** Ends the thread and its connections; containers run on. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#lane.close();
  }

  async #resume(): Promise<void> {
    if (!this.#watching || this.#closed) return;
    // The new thread emits `resync` when its stream is open. If it dies as well, the next one's `restarted` comes here again.
    await this.#lane.call("watch", { ...this.#resumePoint(), resumed: true }).catch(() => {});
  }

  #resumePoint(): { since?: bigint } {
    return this.#lastEvent === undefined ? {} : { since: this.#lastEvent };
  }
}

export type EngineHealth = { up: true; since: number } | { up: false; since: number; reason: string };

export type * from "./engine-types.ts";
