import { EventEmitter } from "node:events";
import { Lane, type LaneLog, LaneLostError } from "@berth/lane";
import { pause } from "@berth/retry";
import { withoutUser } from "./sidecar-http.ts";
import type {
  DrainAnswer,
  DrainRequest,
  DrainResult,
  SeedsRequest,
  SidecarSettings,
  SidecarStatus,
  SidecarThreadMethods,
  ThreadLogLine,
  Verdict,
  WatchTask,
} from "./types.ts";

export interface SidecarLog extends LaneLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
}

export interface SidecarLaneOptions {
  settings: SidecarSettings;
  log: SidecarLog;
  /** Heap limit of the thread in MiB. */
  maxHeapMb?: number;
}

export interface SidecarLaneEvents {
  verdict: [Verdict];
}

/**
 * The supervisor's door to Sidecar: one thread that reads the state once for all tasks of the host, started at the first use.
 *
 * INVARIANTS: a state that cannot be had or read never makes a task unhealthy; a verdict comes only for a watched task, and a
 * fatal one once; a thread that dies is replaced and the counts of failures survive; drains never wait for each other.
 */
export class SidecarLane extends EventEmitter<SidecarLaneEvents> {
  readonly #options: SidecarLaneOptions;
  readonly #tasks = new Map<string, { task: WatchTask; at: number }>();
  #lane: Lane<SidecarThreadMethods> | undefined;
  #draining = 0;
  #closed = false;

  private constructor(options: SidecarLaneOptions) {
    super();
    this.#options = options;
  }

  static open(options: SidecarLaneOptions): SidecarLane {
    return new SidecarLane(options);
  }

  /** Judges a task until `unwatch` or a fatal verdict. A second call for the same task replaces the first. */
  async watch(task: WatchTask): Promise<void> {
    this.#tasks.set(task.taskKey, { task, at: performance.now() });
    await this.#call("watch", task);
  }

  async unwatch(taskKey: string): Promise<void> {
    if (!this.#tasks.delete(taskKey)) return;
    await this.#call("unwatch", { taskKey });
  }

  /**
   * Takes a service out of Sidecar and waits for its clients to go elsewhere. `signal` (the container exited, a second KILL)
   * cuts it short; one that Sidecar refuses is waited for all the same, unless nobody can have been sent to the service. Told by
   * `onAccepted` when Sidecar has taken it. Never throws but for a closed lane.
   */
  async drain(request: DrainRequest, signal?: AbortSignal, onAccepted?: () => void): Promise<DrainResult> {
    if (request.durationMs <= 0) return { accepted: false, completed: true };
    // The wall clock tells only how much an earlier supervisor has waited; one that is set later neither cuts nor lengthens it.
    const waitedBefore = Math.min(Math.max(Date.now() - request.beganAt, 0), request.durationMs);
    const endsAt = performance.now() + request.durationMs - waitedBefore;
    this.#draining += 1;
    try {
      const { pointless, ...answer } = request.requested
        ? { accepted: true, pointless: false }
        : await this.#requestDrain(request, endsAt, signal);
      if (pointless) return { ...answer, completed: true };
      if (answer.accepted && !request.requested) onAccepted?.();
      return { ...answer, completed: await waited(Math.max(endsAt - performance.now(), 0), signal) };
    } finally {
      this.#draining -= 1;
    }
  }

  /** Hostnames of all agents of the cluster, in the agent's order; asked once per host within a minute. */
  async seeds(request: SeedsRequest, signal?: AbortSignal): Promise<string[]> {
    return this.#call("seeds", request, signal);
  }

  /** What the thread has to tell; a lane that nobody has used yet is not started for it. Rejects when the signal aborts first. */
  async status(signal?: AbortSignal): Promise<SidecarStatus> {
    if (this.#lane !== undefined) return { ...(await this.#call("status", undefined, signal)), draining: this.#draining };
    const url = withoutUser(this.#options.settings.url);
    return { url, mode: "idle", reachable: true, since: Date.now(), requests: 0, parsed: 0, bytes: 0, tasks: [], draining: 0 };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#lane?.close();
  }

  async #requestDrain(request: DrainRequest, endsAt: number, signal?: AbortSignal): Promise<DrainAnswer> {
    const { serviceId, retryCount, retryDelayMs, known } = request;
    // The wait runs from the beginning, also while the request is tried again: a Sidecar that is away does not double the time.
    const limit = AbortSignal.timeout(Math.max(Math.round(endsAt - performance.now()), 0));
    const both = signal === undefined ? limit : AbortSignal.any([signal, limit]);
    try {
      return await this.#call("requestDrain", { serviceId, retryCount, retryDelayMs, known }, both);
    } catch (error) {
      return { accepted: false, problem: both.aborted ? "not accepted in time" : (error as Error).message };
    }
  }

  async #call<Name extends keyof SidecarThreadMethods>(
    method: Name,
    argument: Parameters<SidecarThreadMethods[Name]>[0],
    signal?: AbortSignal,
  ): Promise<Awaited<ReturnType<SidecarThreadMethods[Name]>>> {
    for (let send = 1; ; send++) {
      try {
        return (await this.#open().call(method, argument as never, signal)) as Awaited<ReturnType<SidecarThreadMethods[Name]>>;
      } catch (error) {
        if (!(error instanceof LaneLostError) || this.#closed || send >= 3) throw error;
      }
    }
  }

  #open(): Lane<SidecarThreadMethods> {
    if (this.#lane !== undefined) return this.#lane;
    if (this.#closed) throw new LaneLostError("the sidecar lane is closed");
    const { settings, log, maxHeapMb } = this.#options;
    const lane = new Lane<SidecarThreadMethods>({
      name: "sidecar",
      entry: new URL("./sidecar.thread.ts", import.meta.url),
      start: settings,
      log,
      ...(maxHeapMb === undefined ? {} : { maxHeapMb }),
    });
    lane.on("log", (line: ThreadLogLine) => log[line.level](line.fields, line.message));
    lane.on("verdict", (verdict: Verdict) => this.#judge(verdict));
    lane.on("restarted", () => {
      const now = performance.now();
      for (const { task, at } of this.#tasks.values()) lane.call("watch", { ...task, ageMs: task.ageMs + now - at }).catch(() => {});
    });
    this.#lane = lane;
    return lane;
  }

  #judge(verdict: Verdict): void {
    const entry = this.#tasks.get(verdict.taskKey);
    if (entry === undefined) return;
    if (verdict.fatal) this.#tasks.delete(verdict.taskKey);
    else entry.task = { ...entry.task, failures: verdict.failures, failingSince: verdict.since };
    this.emit("verdict", verdict);
  }
}

async function waited(ms: number, signal?: AbortSignal): Promise<boolean> {
  try {
    await pause(ms, signal);
    return true;
  } catch {
    return false;
  }
}
