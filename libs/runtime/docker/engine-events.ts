import { type BackoffPolicy, backoffDelay, pause } from "@berth/retry";
import type { DockerHttp, DockerStream } from "./engine-http.ts";
import { readLines } from "./engine-lines.ts";
import { fields, text, textMap } from "./engine-read.ts";
import { RecentEvents } from "./engine-recent.ts";
import type { DockerTimeouts } from "./engine-timeouts.ts";
import type { ContainerEvent, EngineEvents } from "./engine-types.ts";

/** Actions that a task's owner hears of. `exec_die` stays in here: it ends an exec. */
const ACTIONS = ["start", "die", "oom", "kill", "stop", "destroy", "pause", "unpause", "restart", "health_status", "exec_die"] as const;
/** Events of one moment may come out of order; what is asked for again is known by its key. */
const OVERLAP_NANO = 1_000_000_000n;
const HELD_MS = 1_000;
const BACKOFF: BackoffPolicy = { attempts: Number.POSITIVE_INFINITY, firstDelayMs: 100, maxDelayMs: 2_000 };

export interface EventStreamOptions {
  http: DockerHttp;
  timeouts: DockerTimeouts;
  /** "key" or "key=value". */
  label: string;
  emit: <Name extends keyof EngineEvents>(name: Name, ...detail: EngineEvents[Name]) => void;
  onExecDied: (execId: string) => void;
}

/**
 * dockerd's events about our containers, over one connection that is opened again however it ends.
 *
 * INVARIANTS: one stream at a time; after every re-opening `resync` is emitted once the stream is open (dockerd forgets events over
 * a restart and keeps only 256); an event is emitted once; `up` and `down` alternate. A dockerd that accepts but does not answer is
 * found by `_ping`, because a silent stream looks like a quiet host.
 */
export class EventStream {
  readonly #options: EventStreamOptions;
  readonly #stopped = new AbortController();
  readonly #recent = new RecentEvents();
  #stream: DockerStream | undefined;
  #up = false;
  #toldDown = false;
  #lastWell = Date.now();
  #lastEvent: bigint | undefined;
  #opened = 0;

  constructor(options: EventStreamOptions) {
    this.#options = options;
  }

  get opened(): number {
    return this.#opened;
  }

  /** Runs until {@link stop}. `resume.since` continues an earlier stream, which makes the first opening a re-opening. */
  async run(resume: { since?: bigint; resumed?: boolean } = {}): Promise<void> {
    this.#lastEvent = resume.since;
    const pinging = this.#pingOnAndOn();
    let failed = 0;
    let gap = resume.resumed === true || resume.since !== undefined ? "the docker thread was replaced" : undefined;
    while (!this.#stopped.signal.aborted) {
      const begun = performance.now();
      gap = (await this.#once(gap)) ?? gap;
      // A stream that held is opened again at once; one that ends as soon as it is open must not become a busy loop.
      failed = performance.now() - begun > HELD_MS ? 0 : failed + 1;
      if (failed > 0) await this.#pause(backoffDelay(BACKOFF, failed));
    }
    await pinging;
  }

  stop(): void {
    this.#stopped.abort(new Error("the event stream is stopped"));
    this.#stream?.close();
  }

  /** One stream from opening to end; returns why events may have been missed since. */
  async #once(gap: string | undefined): Promise<string | undefined> {
    const { http, timeouts, label } = this.#options;
    try {
      const since = this.#lastEvent === undefined ? await this.#dockerdsNow() : this.#lastEvent - OVERLAP_NANO;
      this.#lastEvent ??= since;
      const filters = JSON.stringify({ type: ["container"], label: [label], event: ACTIONS });
      this.#stream = await http.stream("events", {
        operation: "events",
        method: "GET",
        path: "/events",
        query: { since: `${since / 1_000_000_000n}.${String(since % 1_000_000_000n).padStart(9, "0")}`, filters },
        deadlineMs: timeouts.eventsOpen,
        signal: this.#stopped.signal,
      });
      this.#opened += 1;
      this.#tellUp();
      if (gap !== undefined) this.#options.emit("resync", { reason: gap });
      const cut = await readLines(this.#stream.response, (line) => this.#take(line));
      return `the event stream ended: ${cut?.message ?? "closed by dockerd"}`;
    } catch (error) {
      if (!this.#stopped.signal.aborted) this.#tellDown((error as Error).message);
      return this.#opened === 0 ? undefined : (error as Error).message;
    } finally {
      this.#stream?.close();
      this.#stream = undefined;
    }
  }

  /** dockerd's clock in nanoseconds, from a Date header (whole seconds, rounded down): a remote dockerd's clock is not ours. */
  async #dockerdsNow(): Promise<bigint> {
    const { http, timeouts } = this.#options;
    const answer = await http.call({
      operation: "ping",
      method: "GET",
      path: "/_ping",
      deadlineMs: timeouts.ping,
      signal: this.#stopped.signal,
    });
    const date = Date.parse(answer.headers.date ?? "");
    return BigInt(Number.isNaN(date) ? Math.floor(Date.now() / 1000) * 1000 : date) * 1_000_000n;
  }

  #take(line: string): void {
    const event = readEvent(line);
    if (event === undefined || !this.#recent.add(event)) return;
    if (this.#lastEvent === undefined || event.timeNano > this.#lastEvent) this.#lastEvent = event.timeNano;
    if (event.action === "exec_die") this.#options.onExecDied(event.attributes.execID ?? "");
    else this.#options.emit("container", { ...event, action: event.action });
  }

  async #pingOnAndOn(): Promise<void> {
    const { http, timeouts } = this.#options;
    while (!this.#stopped.signal.aborted) {
      await this.#pause(timeouts.pingEvery * (0.75 + Math.random() / 2));
      if (!this.#up || this.#stopped.signal.aborted) continue;
      try {
        await http.call({ operation: "ping", method: "GET", path: "/_ping", deadlineMs: timeouts.ping, signal: this.#stopped.signal });
        this.#lastWell = Date.now();
      } catch (error) {
        if (this.#stopped.signal.aborted) return;
        this.#tellDown((error as Error).message);
        this.#stream?.close();
      }
    }
  }

  #tellUp(): void {
    this.#lastWell = Date.now();
    if (this.#up) return;
    this.#up = true;
    this.#toldDown = false;
    this.#options.emit("up", { since: this.#lastWell });
  }

  #tellDown(reason: string): void {
    if (this.#toldDown) return;
    this.#up = false;
    this.#toldDown = true;
    this.#options.emit("down", { reason, since: this.#lastWell });
  }

  async #pause(ms: number): Promise<void> {
    await pause(ms, this.#stopped.signal).catch(() => {});
  }
}

/** An event as dockerd tells it: one of a container's, or the end of a command in it. */
export type DockerEvent = Omit<ContainerEvent, "action"> & { action: ContainerEvent["action"] | "exec_die" };

/** One line of `GET /events`; undefined for what nobody here wants to know. */
export function readEvent(line: string): DockerEvent | undefined {
  const event = fields(JSON.parse(line));
  const actor = fields(event.Actor);
  const attributes = textMap(actor.Attributes);
  const word = text(event.Action) || text(event.status);
  const [action = "", ...details] = word.split(": ");
  if (text(event.Type) !== "container" || !(ACTIONS as readonly string[]).includes(action)) return undefined;
  // Nanoseconds do not fit a JavaScript number, so they are taken from the text. (Inside a JSON string the quotes would be escaped.)
  const timeNano = BigInt(/"timeNano":(\d+)/.exec(line)?.[1] ?? 0);
  const detail = details.join(": ") || attributes.signal || attributes.execID;
  return {
    id: text(actor.ID) || text(event.id),
    name: attributes.name ?? "",
    action: action as DockerEvent["action"],
    ...(action === "die" && attributes.exitCode !== undefined ? { exitCode: Number(attributes.exitCode) } : {}),
    ...(detail === undefined || detail === "" ? {} : { detail }),
    timeNano,
    attributes,
  };
}
