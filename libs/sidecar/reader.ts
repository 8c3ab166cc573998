import { pick } from "./json-pick.ts";
import { readSeeds } from "./seeds.ts";
import { reasonOf, SidecarHttp, withoutUser } from "./sidecar-http.ts";
import { StateSplitter } from "./state-splitter.ts";
import type {
  DrainAnswer,
  DrainRequest,
  SeedsRequest,
  ServiceStatus,
  SidecarSettings,
  SidecarStatus,
  ThreadLogLine,
  Verdict,
  WatchTask,
} from "./types.ts";
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
  judged: boolean;
  /** Why nothing is known of it, once that was told. */
  missed: "unknown" | "unreachable" | undefined;
  /** The log has been told that Sidecar does not know it. */
  logged: boolean;
  /** Milliseconds of the monotonic clock: the next time it is judged. */
  due: number;
}

/** What is known of the services of one host: id → number of the status. */
export type HostServices = Map<string, number>;

const SEEDS_FRESH_MS = 60_000;
/** Fifty launches must not each wait for a master that hangs. */
const SEEDS_FAILED_MS = 5_000;
const RECONNECT_MS = 1_000;
const LONGEST_WAIT_MS = 60_000;
/** Sidecar says nothing while nothing changes; a stream that died unnoticed is found by opening it again. */
const STREAM_AGE_MS = 600_000;
const SILENT_MS = 120_000;
/** States that a stream may bring beyond what polling would have read by then: the one it begins with, and a change. */
const STREAM_BURST = 2;
/** How long a stream that said too much is not opened again. */
const POLL_INSTEAD_MS = 1_800_000;

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
  readonly #seeds = new Map<string, { until: number; hosts: Promise<string[]> }>();
  /** For logs: without a password that may be in it. */
  readonly #url: string;
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
  /** Milliseconds of the monotonic clock: until then polling is known to be cheaper than the stream. */
  #pollUntil = Number.NEGATIVE_INFINITY;
  #fingerprint = "";
  #heard = 0;

  constructor(settings: SidecarSettings, events: ReaderEvents) {
    this.#settings = settings;
    this.#events = events;
    this.#http = new SidecarHttp(settings);
    this.#url = withoutUser(settings.url);
  }

  watch(task: WatchTask): void {
    this.#tasks.set(task.taskKey, {
      task,
      failures: task.failures ?? 0,
      status: undefined,
      since: task.failingSince ?? Date.now(),
      healthy: (task.failures ?? 0) === 0,
      message: NOT_CHECKED,
      judged: false,
      missed: undefined,
      logged: false,
      due: performance.now() + Math.max(0, task.backoffMs - Math.max(0, task.ageMs)),
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
    request: Pick<DrainRequest, "serviceId" | "retryCount" | "retryDelayMs" | "known">,
    signal?: AbortSignal,
  ): Promise<DrainAnswer> {
    return this.#http.drain(request, signal === undefined ? this.#closed.signal : AbortSignal.any([signal, this.#closed.signal]));
  }

  /** One answer serves every task that asks within a minute, so no task's own signal ends the asking: the requests' time limits do. */
  seeds(request: SeedsRequest): Promise<string[]> {
    const now = performance.now();
    for (const [key, { until }] of this.#seeds) if (until <= now) this.#seeds.delete(key);
    const key = JSON.stringify(request);
    const known = this.#seeds.get(key);
    if (known !== undefined) return known.hosts;
    const entry = { until: now + SEEDS_FRESH_MS, hosts: readSeeds(request, this.#settings.timeoutMs, this.#closed.signal) };
    this.#seeds.set(key, entry);
    entry.hosts.catch(() => {
      entry.until = performance.now() + SEEDS_FAILED_MS;
    });
    return entry.hosts;
  }

  status(): Omit<SidecarStatus, "draining"> {
    return {
      url: this.#url,
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
    if (this.#settings.watch && this.#watchOffered && performance.now() >= this.#pollUntil) {
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

  /**
   * Judges every task that is due, after a fresh look where polling is the way. After its first check a task is judged at whole
   * multiples of the shortest interval that one asks for: so all are judged by the same polls, whenever they were started.
   */
  async #tick(): Promise<void> {
    if (this.#polling) return;
    this.#polling = true;
    try {
      const now = performance.now();
      const due = [...this.#tasks.values()].filter((watched) => watched.due <= now);
      const shortest = this.#shortestInterval();
      const slack = Math.min(shortest / 4, 1_000);
      // First checks come at any time: a state of just now serves them as well. No other is judged twice by the same state.
      const fresh = now - this.#heard < slack && due.every((watched) => !watched.judged && this.#covers(watched));
      if (due.length > 0 && !fresh && (this.#mode === "poll" || this.#mustAsk(due, now))) await this.#poll();
      const end = performance.now();
      for (const watched of [...this.#tasks.values()]) {
        if (watched.due > end + (watched.judged ? slack : 0)) continue;
        watched.due = Math.ceil((now + watched.task.pollIntervalMs - shortest / 4) / shortest) * shortest;
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
    // Not connected: the stream is being opened (again). Or the state was read before a task of that host was there.
    if (!due.every((watched) => this.#covers(watched))) return true;
    if (now - this.#heard > SILENT_MS) return true;
    return due.some(({ task }) => isFailing(this.#state?.get(task.hostKey)?.get(task.serviceId)));
  }

  /** The state that is known was looked through for the task's host. */
  #covers({ task }: Watched): boolean {
    return this.#state?.has(task.hostKey) === true;
  }

  async #poll(): Promise<void> {
    try {
      const answer = await this.#http.state(this.#fingerprint, this.#closed.signal);
      if (answer.body !== undefined) this.#takeAnswer(answer.body, answer.status);
      // A task of another host that came meanwhile needs the same state once more.
      this.#fingerprint = [...this.#tasks.values()].every((watched) => this.#covers(watched)) ? answer.fingerprint : "";
      this.#reached();
    } catch (error) {
      this.#unreached(error);
    }
  }

  /**
   * A stream sends the whole state at each change in the cluster, however many there are, and says nothing in between. It is
   * followed while it brings no more states than polling at the tasks' interval would read.
   */
  #isTooDear(states: number, openedAt: number): boolean {
    return states > STREAM_BURST + (performance.now() - openedAt) / this.#shortestInterval();
  }

  #shortestInterval(): number {
    let shortest = Number.POSITIVE_INFINITY;
    for (const { task } of this.#tasks.values()) shortest = Math.min(shortest, task.pollIntervalMs);
    return shortest;
  }

  #takeAnswer(body: Buffer, status: number): void {
    try {
      this.#take(body);
    } catch (error) {
      throw new Error(`its answer (${status}, ${body.length} bytes) is no state: ${(error as Error).message}`, { cause: error });
    }
  }

  async #follow(): Promise<void> {
    const stream = new AbortController();
    this.#stream = stream;
    const openedAt = performance.now();
    let states = 0;
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
          return stream.abort(this.#unreached(error));
        }
        this.#fingerprint = "";
        this.#reached();
        if (first) this.#schedule();
        first = false;
      };
      const offered = await this.#http.watch(signal, (chunk) => {
        for (const value of splitter.push(chunk)) {
          states += 1;
          if (this.#isTooDear(states, openedAt)) {
            this.#pollUntil = performance.now() + POLL_INSTEAD_MS;
            this.#events.log({
              level: "debug",
              fields: { url: this.#url, states },
              message: "Sidecar's state changes more often than it is looked at: it is polled for the next half hour",
            });
            return stream.abort(new Error("polling is cheaper"));
          }
          // Each value is the whole state: only the newest of a burst is worth parsing.
          if (pending === undefined) setImmediate(parse);
          pending = value;
        }
      });
      if (!offered) {
        this.#watchOffered = false;
        this.#events.log({
          level: "info",
          fields: { url: this.#url },
          message: "Sidecar offers no watch stream, its state is polled",
        });
      }
    } catch (error) {
      if (!signal.aborted) this.#unreached(error);
    }
    if (this.#stream !== stream) return;
    if (this.#watchOffered && performance.now() >= this.#pollUntil && !this.#closed.signal.aborted)
      await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS).unref());
    if (this.#stream === stream) this.#stream = undefined;
    this.#schedule();
  }

  /** Keeps only the statuses of the hosts that tasks asked for. Throws when it is no state. */
  #take(body: Buffer): void {
    const hosts = new Set([...this.#tasks.values()].map(({ task }) => task.hostKey));
    const { picked, met } = pick(body, [SERVERS, hosts]);
    this.#parsed += 1;
    if (met === 0) throw new Error("it has no Servers");
    const state = new Map<string, HostServices>([...hosts].map((host) => [host, new Map()]));
    for (const { key, value } of picked) state.set(key, servicesOf(value));
    this.#state = state;
    this.#lastState = Date.now();
  }

  #reached(): void {
    this.#heard = performance.now();
    if (!this.#reachable) {
      this.#since = Date.now();
      this.#events.log({ level: "info", fields: { url: this.#url }, message: "Sidecar answers again" });
    }
    this.#reachable = true;
    this.#problem = undefined;
  }

  #unreached(error: unknown): void {
    this.#state = undefined;
    this.#fingerprint = "";
    this.#problem = reasonOf(error);
    if (!this.#reachable || this.#closed.signal.aborted) return;
    this.#reachable = false;
    this.#since = Date.now();
    const fields = { url: this.#url, problem: this.#problem };
    this.#events.log({ level: "warn", fields, message: "Sidecar cannot be asked: its tasks are assumed healthy" });
  }

  #judge(watched: Watched): void {
    const { task } = watched;
    watched.judged = true;
    // What was not looked through for it is not known to lack it: the next state tells.
    if (this.#state !== undefined && !this.#covers(watched)) return;
    const number = this.#state?.get(task.hostKey)?.get(task.serviceId);
    if (number === undefined) return this.#miss(watched);
    const status = SERVICE_STATUSES[number] ?? "UNKNOWN";
    const failing = isFailing(number);
    const changed = status !== watched.status;
    if (changed && !(failing && watched.failures > 0)) watched.since = Date.now();
    watched.status = status;
    watched.missed = undefined;
    watched.logged = false;
    watched.failures = failing ? watched.failures + 1 : 0;
    const fatal = failing && watched.failures >= Math.max(1, task.maxFails);
    const healthChanged = watched.healthy === failing;
    watched.healthy = !failing;
    watched.message = failing
      ? `Sidecar says ${status} since ${new Date(watched.since).toISOString()} (${watched.failures} of ${task.maxFails})`
      : `Sidecar says ${status}`;
    if (fatal) this.#tasks.delete(task.taskKey);
    if (healthChanged || failing || changed) this.#tell(watched, fatal);
  }

  /** Unreachable or unknown: assumed healthy, and failures that were affirmed stay counted. */
  #miss(watched: Watched): void {
    const { taskKey, serviceId, hostKey: host } = watched.task;
    const why = this.#state === undefined ? "unreachable" : "unknown";
    watched.message =
      why === "unknown"
        ? `Sidecar does not know the service ${serviceId} on ${host}: assumed healthy`
        : `Sidecar cannot be asked: assumed healthy (${this.#problem ?? "no state yet"})`;
    if (why === "unknown" && !watched.logged) {
      watched.logged = true;
      this.#events.log({
        level: "info",
        fields: { taskKey, serviceId, host },
        message: "Sidecar does not know the service: assumed healthy",
      });
    }
    if (watched.missed === why) return;
    watched.missed = why;
    watched.status = undefined;
    this.#tell(watched, false);
  }

  #tell({ task: { taskKey }, healthy, status, since, failures, message }: Watched, fatal: boolean): void {
    this.#events.verdict({ taskKey, healthy, since, failures, fatal, message, ...(status === undefined ? {} : { status }) });
  }
}

const SERVERS = new Set(["Servers"]);
const NOT_CHECKED = "not checked yet";

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
