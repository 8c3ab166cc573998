import { EventEmitter } from "node:events";
import { Lane, type LaneLog, LaneLostError } from "@berth/lane";
import { pause } from "@berth/retry";
import type {
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
  readonly #tasks = new Map<string, WatchTask>();
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
    this.#tasks.set(task.taskKey, task);
    await this.#call("watch", task);
  }

  async unwatch(taskKey: string): Promise<void> {
    if (!this.#tasks.delete(taskKey)) return;
    await this.#call("unwatch", { taskKey });
  }

  /**
   * Takes a service out of Sidecar and waits for its clients to go elsewhere. `signal` (the container exited, a second KILL)
   * cuts it short; a drain that Sidecar refuses is waited for all the same, unless the request says otherwise. Never throws but for a closed lane.
   */
  async drain(request: DrainRequest, signal?: AbortSignal): Promise<DrainResult> {
    if (request.durationMs <= 0) return { accepted: false, completed: true };
    this.#draining += 1;
    try {
      const answer = request.requested ? { accepted: true } : await this.#requestDrain(request, signal);
      if (!answer.accepted && request.waitsUnaccepted === false) return { ...answer, completed: true };
      const rest = request.beganAt + request.durationMs - Date.now();
      // The clock may have been set: never wait longer than a whole drain.
      const completed = await waited(Math.min(Math.max(rest, 0), request.durationMs), signal);
      return { ...answer, completed };
    } finally {
      this.#draining -= 1;
    }
  }

  /** Hostnames of all agents of the cluster, in the agent's order; asked once per host within a minute. */
  async seeds(request: SeedsRequest, signal?: AbortSignal): Promise<string[]> {
    return this.#call("seeds", request, signal);
  }

  async status(): Promise<SidecarStatus> {
    return { ...(await this.#call("status", undefined)), draining: this.#draining };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#lane?.close();
  }

  async #requestDrain(request: DrainRequest, signal?: AbortSignal): Promise<{ accepted: boolean; problem?: string }> {
    const { serviceId, retryCount, retryDelayMs, durationMs, beganAt } = request;
    // The wait runs from the beginning, also while the request is tried again: a Sidecar that is away does not double the time.
    const limit = AbortSignal.timeout(Math.min(Math.max(beganAt + durationMs - Date.now(), 0), durationMs));
    const both = signal === undefined ? limit : AbortSignal.any([signal, limit]);
    try {
      return await this.#call("requestDrain", { serviceId, retryCount, retryDelayMs }, both);
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
      for (const task of this.#tasks.values()) lane.call("watch", task).catch(() => {});
    });
    this.#lane = lane;
    return lane;
  }

  #judge(verdict: Verdict): void {
    const task = this.#tasks.get(verdict.taskKey);
    if (task === undefined) return;
    if (verdict.fatal) this.#tasks.delete(verdict.taskKey);
    else this.#tasks.set(verdict.taskKey, { ...task, failures: verdict.failures, failingSince: verdict.since });
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
