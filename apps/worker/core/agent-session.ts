import type { Event, OpaqueTaskInfo, StatusUpdate, SubscribedEvent } from "@berth/mesos";
import { RecordDecoder } from "@berth/recordio";
import { type AgentEndpoint, encodeRequest } from "./agent-endpoint.ts";
import { parseAgentJson } from "./agent-json.ts";
import type { Connection, Host } from "./host.ts";
import { ResponseParser } from "./http-response.ts";

export interface SessionOptions {
  executorId: string;
  frameworkId: string;
  /** MESOS_CHECKPOINT: the agent keeps us over its own restart, so we come back. */
  checkpoint: boolean;
  /** MESOS_RECOVERY_TIMEOUT, milliseconds: counted from the first failure of a row. */
  recoveryTimeoutMs: number;
  /** MESOS_SUBSCRIPTION_BACKOFF_MAX, milliseconds. */
  backoffMaxMs: number;
}

export interface SessionHandlers {
  /**
   * Said in each SUBSCRIBE: without it the agent takes running tasks for lost. Both in the order in which they came up.
   * `reduced`: the agent could not read the last one, so updates are to be said with their required fields only.
   */
  unacknowledged(reduced: boolean): { tasks: OpaqueTaskInfo[]; updates: StatusUpdate[] };
  subscribed(event: SubscribedEvent): void;
  event(event: Exclude<Event, { type: "SUBSCRIBED" }>): void;
  /** The stream is down; updates wait until `subscribed`. */
  disconnected(): void;
  /** The agent will not have us (again): stop the tasks and end. */
  lost(why: string): void;
  log(line: string): void;
}

/** The agent destroys what is not back two seconds after its restart, so retries are far closer together than its maximum says. */
const MAX_RETRY_DELAY_MS = 500;
const MIN_RETRY_DELAY_MS = 10;
/** How long an executor that never subscribed tries: as long as the agent waits for it before it kills it. */
const FIRST_SUBSCRIBE_MS = 60_000;
/** The first event must come within this time after SUBSCRIBE; the stream after it may be silent for half an hour. */
const FIRST_EVENT_TIMEOUT_MS = 5000;
/** A stream that ends sooner is not opened again at once: somebody else may take it away as often as we take it back. */
const SHORT_STREAM_MS = 1000;
const MAX_ERROR_TEXT = 2048;

/**
 * The subscription to the agent: one connection for the event stream, opened again whenever it ends.
 *
 * INVARIANTS: what an old stream still says is ignored (each has its own generation); after `lost` nothing is tried any more;
 * between the end of a stream and the next `subscribed` no more than MAX_RETRY_DELAY_MS pass per attempt; streams that live
 * shorter than SHORT_STREAM_MS are not opened again without a delay.
 */
export class AgentSession {
  readonly #host: Host;
  readonly #endpoint: AgentEndpoint;
  readonly #options: SessionOptions;
  readonly #handlers: SessionHandlers;
  #connection: Connection | undefined;
  #generation = 0;
  #everSubscribed = false;
  #subscribed = false;
  #subscribedAt = Number.NEGATIVE_INFINITY;
  #reduced = false;
  #failingSince: number | undefined;
  #timer: number | undefined;
  #ended = false;

  constructor(host: Host, endpoint: AgentEndpoint, options: SessionOptions, handlers: SessionHandlers) {
    this.#host = host;
    this.#endpoint = endpoint;
    this.#options = options;
    this.#handlers = handlers;
  }

  get subscribed(): boolean {
    return this.#subscribed;
  }

  start(): void {
    this.#subscribe();
  }

  /** Drops the stream and subscribes again: the agent no longer knows us as subscribed. */
  resubscribe(why: string): void {
    // Who is on the way back anyway must not be thrown back by the late answer to a call.
    if (!this.#ended && this.#subscribed) this.#failed(this.#generation, why);
  }

  end(): void {
    this.#ended = true;
    this.#generation += 1;
    this.#connection?.close();
    if (this.#timer !== undefined) this.#host.clearTimer(this.#timer);
  }

  #subscribe(): void {
    const generation = ++this.#generation;
    const stream = new SubscribeStream(this.#host, {
      event: (event) => {
        if (generation === this.#generation) this.#take(generation, event);
      },
      refused: (status, text) => {
        if (generation === this.#generation) this.#refused(generation, status, text);
      },
      broken: (why) => this.#failed(generation, why),
    });
    const timer = this.#host.setTimer(FIRST_EVENT_TIMEOUT_MS, () => {
      if (!stream.spoke) this.#failed(generation, `no answer to SUBSCRIBE within ${FIRST_EVENT_TIMEOUT_MS} ms`);
    });
    const connection = this.#endpoint.connect(this.#host, {
      open: () => connection.write(encodeRequest(this.#host, this.#endpoint, this.#host.encodeUtf8(this.#call()))),
      data: (bytes) => {
        if (generation === this.#generation) stream.push(bytes);
      },
      close: (error) => {
        this.#host.clearTimer(timer);
        stream.closed();
        this.#failed(generation, error ?? "the agent ended the stream");
      },
    });
    this.#connection = connection;
  }

  #call(): string {
    const { tasks, updates } = this.#handlers.unacknowledged(this.#reduced);
    return JSON.stringify({
      type: "SUBSCRIBE",
      executor_id: { value: this.#options.executorId },
      framework_id: { value: this.#options.frameworkId },
      subscribe: { unacknowledged_tasks: tasks, unacknowledged_updates: updates.map((status) => ({ status })) },
    });
  }

  #take(generation: number, event: Event): void {
    switch (event.type) {
      case "SUBSCRIBED":
        if (this.#everSubscribed) this.#handlers.log("subscribed to the agent again");
        this.#subscribed = true;
        this.#everSubscribed = true;
        this.#reduced = false;
        this.#failingSince = undefined;
        this.#subscribedAt = this.#host.monotonicClock();
        this.#handlers.subscribed(event.subscribed ?? {});
        break;
      case "ERROR":
        this.#onError(generation, event.error?.message ?? "");
        break;
      default:
        this.#handle(event);
    }
  }

  /** No agent sends it over HTTP. Who checkpoints can afford to make sure that both sides agree; who does not would lose the tasks. */
  #onError(generation: number, text: string): void {
    if (this.#options.checkpoint) this.#failed(generation, `the agent says ERROR: ${text}`);
    else this.#handlers.log(`the agent says ERROR: ${text}`);
  }

  /** An event without the fields that its type has costs nobody the stream. */
  #handle(event: Exclude<Event, { type: "SUBSCRIBED" }>): void {
    try {
      this.#handlers.event(event);
    } catch (error) {
      this.#handlers.log(`an event ${event.type} cannot be understood and is ignored: ${error instanceof Error ? error.message : error}`);
    }
  }

  #refused(generation: number, status: number, text: string): void {
    // 404 and 503 are an agent that is still starting; 403 of this kind one that has restarted and does not know us yet.
    if (status === 404 || status >= 500 || (status === 403 && /not subscribed/i.test(text)))
      return this.#failed(generation, `${status} ${text}`);
    if (status === 400 && /^Failed to (parse|convert|validate)/.test(text) && !this.#reduced) {
      this.#handlers.log(`BUG: the agent cannot read SUBSCRIBE: ${text}`);
      this.#reduced = true;
      return this.#failed(generation, `${status} ${text}`);
    }
    this.#lose(`the agent refuses SUBSCRIBE with ${status}: ${text}`);
  }

  #failed(generation: number, why: string): void {
    if (generation !== this.#generation || this.#ended) return;
    this.#generation += 1;
    this.#connection?.close();
    this.#connection = undefined;
    const first = this.#failingSince === undefined;
    const now = this.#host.monotonicClock();
    this.#failingSince ??= now;
    if (this.#subscribed) {
      this.#subscribed = false;
      this.#handlers.log(`lost the connection to the agent at ${this.#endpoint.name}: ${why}`);
      this.#handlers.disconnected();
    } else if (first) this.#handlers.log(`cannot subscribe to the agent at ${this.#endpoint.name} yet: ${why}`);
    if (this.#everSubscribed && !this.#options.checkpoint) {
      return this.#lose("the connection to the agent is lost, and without checkpointing the agent does not take an executor back");
    }
    const limit = this.#everSubscribed ? this.#options.recoveryTimeoutMs : FIRST_SUBSCRIBE_MS;
    if (now - this.#failingSince >= limit)
      return this.#lose(
        `the agent at ${this.#endpoint.name} did not take us within ${Math.round(limit / 1000)} s: ${why}${this.#hint(why)}`,
      );
    const random = (this.#host.randomBytes(1)[0] as number) / 256;
    const most = Math.min(MAX_RETRY_DELAY_MS, this.#options.backoffMaxMs / 4);
    const delay = first && now - this.#subscribedAt >= SHORT_STREAM_MS ? 0 : Math.min(most, MIN_RETRY_DELAY_MS + random * most);
    this.#timer = this.#host.setTimer(delay, () => this.#subscribe());
  }

  /** An agent with TLS resets plain connections, and nothing in the environment that it gives tells of it. */
  #hint(why: string): string {
    if (this.#everSubscribed || this.#endpoint.tls || !why.includes("ECONNRESET")) return "";
    return "; if the agent speaks TLS, set BERTH_AGENT_SCHEME=https for the executor";
  }

  #lose(why: string): void {
    if (this.#ended) return;
    this.#subscribed = false;
    this.end();
    this.#handlers.lost(why);
  }
}

interface StreamHandlers {
  event(event: Event): void;
  refused(status: number, text: string): void;
  broken(why: string): void;
}

/** The answer to one SUBSCRIBE: an endless RecordIO body, or an error with a short text. */
class SubscribeStream {
  readonly #handlers: StreamHandlers;
  readonly #parser: ResponseParser;
  readonly #records: RecordDecoder;
  #status = 0;
  #text = "";
  #spoke = false;

  constructor(host: Host, handlers: StreamHandlers) {
    this.#handlers = handlers;
    this.#records = new RecordDecoder((record) => this.#record(host.decodeUtf8(record)));
    this.#parser = new ResponseParser({
      head: (status) => {
        this.#status = status;
      },
      body: (bytes) => {
        if (this.#status === 200) this.#records.push(bytes);
        else if (this.#text.length < MAX_ERROR_TEXT) this.#text += host.decodeUtf8(bytes);
      },
      end: () => {
        if (this.#status === 200) handlers.broken("the agent ended the stream");
        else {
          this.#spoke = true;
          handlers.refused(this.#status, this.#text.slice(0, MAX_ERROR_TEXT));
        }
      },
    });
  }

  /** Whether an event or a refusal has come. */
  get spoke(): boolean {
    return this.#spoke;
  }

  push(bytes: Uint8Array): void {
    try {
      this.#parser.push(bytes);
    } catch (error) {
      this.#handlers.broken(error instanceof Error ? error.message : "the stream cannot be read");
    }
  }

  closed(): void {
    this.#parser.closed();
  }

  #record(text: string): void {
    this.#spoke = true;
    const event = parseAgentJson(text) as Event;
    if (typeof event?.type !== "string") throw new Error("an event without a type");
    this.#handlers.event(event);
  }
}
