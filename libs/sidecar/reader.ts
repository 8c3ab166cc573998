import { readSeeds } from "./seeds.ts";
import { SidecarHttp } from "./sidecar-http.ts";
import { StateSplitter } from "./state-splitter.ts";
import type { SeedsRequest, ServiceStatus, SidecarSettings, SidecarStatus, ThreadLogLine, Verdict, WatchTask } from "./types.ts";
import { SERVICE_STATUSES } from "./types.ts";

export interface ReaderEvents {
  verdict(verdict: Verdict): void;
  log(line: ThreadLogLine): void;
}

interface Watched {
  task: WatchTask;
  failures: number;
  status: ServiceStatus | undefined;
  since: number;
  healthy: boolean;
  message: string;
  /** Milliseconds of the monotonic clock: the next time it is judged. */
  due: number;
}

/** What is known of the services of one host: id → number of the status. */
export type HostServices = Map<string, number>;

const SEEDS_FRESH_MS = 60_000;
const RECONNECT_MS = 1_000;
const LONGEST_WAIT_MS = 60_000;
/** Sidecar says nothing while nothing changes; a stream that died unnoticed is found by opening it again. */
const STREAM_AGE_MS = 300_000;
const SILENT_MS = 60_000;

/**
 * Reads Sidecar's state for every task of the host and judges their health. Times are taken from the monotonic clock, so that a
 * clock that is set neither hastens nor delays a verdict.
 */
export class SidecarReader {
  readonly #settings: SidecarSettings;
  readonly #events: ReaderEvents;
  readonly #http: SidecarHttp;
  readonly #tasks = new Map<string, Watched>();
  readonly #closed = new AbortController();
  readonly #seeds = new Map<string, { at: number; hosts: Promise<string[]> }>();
  /** By host key; undefined while no usable state is known. */
  #state: Map<string, HostServices> | undefined;
  #lastState: number | undefined;
  #mode: SidecarStatus["mode"] = "idle";
  #reachable = true;
  #since = Date.now();
  #problem: string | undefined;
  #parsed = 0;
  #timer: NodeJS.Timeout | undefined;
  #polling = false;
  #stream: AbortController | undefined;
  #watchOffered = true;
  #fingerprint = "";
  #heard = 0;

  constructor(settings: SidecarSettings, events: ReaderEvents) {
    this.#settings = settings;
    this.#events = events;
    this.#http = new SidecarHttp(settings);
  }

  watch(task: WatchTask): void {
    const age = Math.max(0, Date.now() - task.startedAt);
    this.#tasks.set(task.taskKey, {
      task,
      failures: task.failures ?? 0,
      status: undefined,
      since: task.failingSince ?? Date.now(),
      healthy: (task.failures ?? 0) === 0,
      message: "not checked yet",
      due: performance.now() + Math.max(0, task.backoffMs - age),
    });
    // A host of which no state was kept so far is read with the next state, whatever its fingerprint.
    if (this.#state !== undefined && !this.#state.has(task.hostKey)) this.#fingerprint = "";
    this.#schedule();
  }

  unwatch(taskKey: string): void {
    this.#tasks.delete(taskKey);
    this.#schedule();
  }

  async requestDrain(
    request: { serviceId: string; retryCount: number; retryDelayMs: number },
    signal?: AbortSignal,
  ): Promise<{ accepted: boolean; problem?: string }> {
    return this.#http.drain(request, signal === undefined ? this.#closed.signal : AbortSignal.any([signal, this.#closed.signal]));
  }

  seeds(request: SeedsRequest, signal?: AbortSignal): Promise<string[]> {
    const key = `${request.scheme ?? "http"}://${request.agentEndpoint} ${request.masterPort}`;
    const known = this.#seeds.get(key);
    if (known !== undefined && performance.now() - known.at < SEEDS_FRESH_MS) return known.hosts;
    const hosts = readSeeds(request, this.#settings.timeoutMs, signal);
    this.#seeds.set(key, { at: performance.now(), hosts });
    hosts.catch(() => this.#seeds.delete(key));
    return hosts;
  }

  status(): Omit<SidecarStatus, "draining"> {
    return {
      url: this.#settings.url,
      mode: this.#mode,
      reachable: this.#reachable,
      since: this.#since,
      ...(this.#problem === undefined ? {} : { problem: this.#problem }),
      ...(this.#lastState === undefined ? {} : { lastState: this.#lastState }),
      requests: this.#http.requests,
      parsed: this.#parsed,
      bytes: this.#http.bytes,
      tasks: [...this.#tasks.values()].map(({ task, status, failures, message }) => ({
        taskKey: task.taskKey,
        serviceId: task.serviceId,
        failures,
        message,
        ...(status === undefined ? {} : { status }),
      })),
    };
  }

  close(): void {
    this.#closed.abort(new Error("the Sidecar reader is closed"));
    clearTimeout(this.#timer);
    this.#stream?.abort();
    this.#http.close();
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#closed.signal.aborted) return;
    if (this.#tasks.size === 0) {
      this.#mode = "idle";
      this.#stream?.abort();
      this.#stream = undefined;
      return;
    }
    if (this.#settings.watch && this.#watchOffered) {
      this.#mode = "watch";
      if (this.#stream === undefined) void this.#follow();
    } else {
      this.#mode = "poll";
    }
    const now = performance.now();
    let next = now + LONGEST_WAIT_MS;
    for (const { due } of this.#tasks.values()) next = Math.min(next, due);
    this.#timer = setTimeout(() => void this.#tick(), Math.max(0, next - now));
  }

  /** Judges every task that is due, after a fresh look where polling is the way. Tasks due soon are judged along: one poll serves all. */
  async #tick(): Promise<void> {
    if (this.#polling) return;
    this.#polling = true;
    try {
      const now = performance.now();
      const due = [...this.#tasks.values()].filter((watched) => watched.due <= now);
      if (due.length > 0 && (this.#mode === "poll" || this.#mustAsk(due, now))) await this.#poll();
      const end = performance.now();
      for (const watched of [...this.#tasks.values()]) {
        const slack = Math.min(watched.task.pollIntervalMs / 4, 1_000);
        const waiting = watched.status === undefined && watched.message === "not checked yet";
        if (watched.due > end + (waiting ? 0 : slack)) continue;
        watched.due = Math.max(watched.due + watched.task.pollIntervalMs, end);
        if (watched.due - end < slack) watched.due = end + watched.task.pollIntervalMs;
        this.#judge(watched);
      }
    } finally {
      this.#polling = false;
      this.#schedule();
    }
  }

  /**
   * A stream says nothing while nothing changes, also when its other end has vanished. So a failure is affirmed by asking, and a
   * stream that was silent for long is looked behind.
   */
  #mustAsk(due: readonly Watched[], now: number): boolean {
    if (this.#state === undefined) return false; // Not connected: the stream is being opened again.
    if (now - this.#heard > SILENT_MS) return true;
    return due.some(({ task }) => isFailing(this.#state?.get(task.hostKey)?.get(task.serviceId)));
  }

  async #poll(): Promise<void> {
    try {
      const answer = await this.#http.state(this.#fingerprint, this.#closed.signal);
      if (answer.body !== undefined) this.#take(answer.body);
      this.#fingerprint = answer.fingerprint;
      this.#reached();
    } catch (error) {
      this.#unreached(error as Error);
    }
  }

  async #follow(): Promise<void> {
    const stream = new AbortController();
    this.#stream = stream;
    const signal = AbortSignal.any([stream.signal, this.#closed.signal, AbortSignal.timeout(STREAM_AGE_MS)]);
    try {
      const splitter = new StateSplitter(this.#settings.maxStateBytes);
      let pending: Buffer | undefined;
      let first = true;
      const parse = (): void => {
        const value = pending;
        pending = undefined;
        if (value === undefined || signal.aborted) return;
        try {
          this.#take(value);
        } catch (error) {
          return stream.abort(this.#unreached(error as Error));
        }
        this.#fingerprint = "";
        this.#reached();
        if (first) this.#schedule();
        first = false;
      };
      const offered = await this.#http.watch(signal, (chunk) => {
        for (const value of splitter.push(chunk)) {
          // Each value is the whole state: only the newest of a burst is worth parsing.
          if (pending === undefined) setImmediate(parse);
          pending = value;
        }
      });
      if (!offered) {
        this.#watchOffered = false;
        this.#events.log({
          level: "info",
          fields: { url: this.#settings.url },
          message: "Sidecar offers no watch stream, its state is polled",
        });
      }
    } catch (error) {
      if (!signal.aborted) this.#unreached(error as Error);
    }
    if (this.#stream !== stream) return;
    if (this.#watchOffered && !this.#closed.signal.aborted) await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS).unref());
    if (this.#stream === stream) this.#stream = undefined;
    this.#schedule();
  }

  /** Keeps only the statuses of the hosts that tasks asked for. Throws when it is no state. */
  #take(body: Buffer): void {
    const parsed: unknown = JSON.parse(body.toString("utf8"));
    this.#parsed += 1;
    const servers = (parsed as { Servers?: unknown } | null)?.Servers;
    if (typeof servers !== "object" || servers === null) throw new Error("the state has no Servers");
    const state = new Map<string, HostServices>();
    for (const { task } of this.#tasks.values()) {
      if (state.has(task.hostKey)) continue;
      state.set(task.hostKey, servicesOf((servers as Record<string, unknown>)[task.hostKey]));
    }
    this.#state = state;
    this.#lastState = Date.now();
  }

  #reached(): void {
    this.#heard = performance.now();
    if (!this.#reachable) {
      this.#since = Date.now();
      this.#events.log({ level: "info", fields: { url: this.#settings.url }, message: "Sidecar answers again" });
    }
    this.#reachable = true;
    this.#problem = undefined;
  }

  #unreached(error: Error): void {
    this.#state = undefined;
    this.#fingerprint = "";
    this.#problem = error.message;
    if (!this.#reachable || this.#closed.signal.aborted) return;
    this.#reachable = false;
    this.#since = Date.now();
    const fields = { url: this.#settings.url, problem: error.message };
    this.#events.log({ level: "warn", fields, message: "Sidecar cannot be asked: its tasks are assumed healthy" });
  }

  #judge(watched: Watched): void {
    const { task } = watched;
    const number = this.#state?.get(task.hostKey)?.get(task.serviceId);
    const status = number === undefined ? undefined : SERVICE_STATUSES[number];
    if (status === undefined) {
      // Unreachable or unknown: assumed healthy, and failures that were affirmed stay counted.
      const known = this.#state !== undefined;
      const message = known
        ? `Sidecar does not know the service ${task.serviceId} on ${task.hostKey}`
        : `Sidecar cannot be asked: ${this.#problem ?? "no state yet"}`;
      if (known && watched.message !== message) {
        this.#events.log({
          level: "info",
          fields: { taskKey: task.taskKey, serviceId: task.serviceId, host: task.hostKey },
          message: "Sidecar does not know the service: assumed healthy",
        });
      }
      watched.message = message;
      return;
    }
    const failing = isFailing(number);
    const changed = status !== watched.status;
    if (changed && !(failing && watched.failures > 0)) watched.since = Date.now();
    watched.status = status;
    watched.failures = failing ? watched.failures + 1 : 0;
    const fatal = failing && watched.failures >= Math.max(1, task.maxFails);
    const healthChanged = watched.healthy === failing;
    watched.healthy = !failing;
    watched.message = failing
      ? `Sidecar says ${status} since ${new Date(watched.since).toISOString()} (${watched.failures} of ${task.maxFails})`
      : `Sidecar says ${status}`;
    if (fatal) this.#tasks.delete(task.taskKey);
    if (!healthChanged && !failing && !changed) return;
    const { taskKey } = task;
    const { healthy, since, failures, message } = watched;
    this.#events.verdict({ taskKey, healthy, status, since, failures, fatal, message });
  }
}

/** Only these two count against a task; draining and unknown do not. */
function isFailing(status: number | undefined): boolean {
  return status === 1 || status === 2;
}

function servicesOf(server: unknown): HostServices {
  const services = (server as { Services?: unknown } | undefined)?.Services;
  const found: HostServices = new Map();
  if (typeof services !== "object" || services === null) return found;
  for (const [id, service] of Object.entries(services)) {
    const status = (service as { Status?: unknown } | null)?.Status;
    if (typeof status === "number") found.set(id, status);
  }
  return found;
}
