import {
  encodeFrame,
  type Hello,
  PROTOCOL_VERSIONS,
  parseSupervisorMessage,
  type SupervisorMessage,
  type WorkerMessage,
} from "@berth/protocol";
import { RecordDecoder } from "@berth/recordio";
import type { Connection, Host } from "./host.ts";

export interface LinkHandlers {
  /** Everything that the worker knows, at this moment. */
  hello(): Hello;
  /** A supervisor serves us; the tasks of the last hello and of every launch since are in its care. `takesOutput`: it will say `taken`. */
  welcomed(takesOutput: boolean): void;
  /** Another process is the worker of this executor. */
  refusedForGood(reason: string): void;
  /** The connection ended, or could not be made. `served`: there was a welcome on it. */
  away(served: boolean): void;
  message(message: SupervisorMessage): void;
  log(line: string): void;
}

const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 2000;

/**
 * The connection to the supervisor, opened again for as long as the worker lives.
 *
 * INVARIANTS: the first thing said on each connection is a hello with everything that is known then, so a message that could
 * not be sent while the supervisor was away is not missed; at most MAX_RETRY_MS pass between two attempts.
 */
export class SupervisorLink {
  readonly path: string;
  readonly #host: Host;
  readonly #handlers: LinkHandlers;
  #connection: Connection | undefined;
  #open = false;
  #welcomed = false;
  #retryMs = FIRST_RETRY_MS;
  #everTold = false;
  #ended = false;
  /** The reason of the last refusal, until a welcome. */
  #refusal: string | undefined;
  /** Why the supervisor is not there, for the message of a task that cannot wait any longer. */
  problem = "not tried yet";

  constructor(host: Host, path: string, handlers: LinkHandlers) {
    this.#host = host;
    this.path = path;
    this.#handlers = handlers;
  }

  get connected(): boolean {
    return this.#welcomed;
  }

  /** A supervisor has the hello and has not answered yet: it may take our tasks on at any moment. */
  get greeting(): boolean {
    return this.#open && !this.#welcomed;
  }

  start(): void {
    this.#connect();
  }

  /** Sends a message when a connection is open, else drops it: the next hello says the same. Returns whether it was sent. */
  send(message: WorkerMessage): boolean {
    if (!this.#open) return false;
    this.#connection?.write(encodeFrame(message, (text) => this.#host.encodeUtf8(text)));
    return true;
  }

  end(): void {
    this.#ended = true;
    this.#connection?.close();
  }

  #connect(): void {
    if (this.#ended) return;
    const decoder = new RecordDecoder((record) => this.#hear(parseSupervisorMessage(this.#host.decodeUtf8(record))));
    const connection: Connection = this.#host.connectUnix(this.path, {
      open: () => {
        this.#open = true;
        this.problem = "it takes connections but does not answer";
        this.send(this.#handlers.hello());
      },
      data: (bytes) => {
        try {
          decoder.push(bytes);
        } catch (error) {
          connection.close();
          this.#closed(connection, `what it says cannot be read: ${error instanceof Error ? error.message : error}`);
        }
      },
      close: (error) => this.#closed(connection, error ?? "it closed the connection"),
    });
    this.#connection = connection;
  }

  #closed(connection: Connection, why: string): void {
    if (connection !== this.#connection || this.#ended) return;
    const served = this.#welcomed;
    this.#connection = undefined;
    this.#open = false;
    this.#welcomed = false;
    if (this.#refusal === undefined) this.problem = why;
    this.#handlers.away(served);
    if (served || !this.#everTold) {
      this.#everTold = true;
      this.#handlers.log(`the supervisor at ${this.path} is away (${why}); waiting for it`);
    }
    if (served) this.#retryMs = FIRST_RETRY_MS;
    const random = (this.#host.randomBytes(1)[0] as number) / 256;
    this.#host.setTimer(this.#retryMs * (0.5 + random / 2), () => this.#connect());
    this.#retryMs = Math.min(MAX_RETRY_MS, this.#retryMs * 2);
  }

  #hear(message: SupervisorMessage | null): void {
    if (this.#ended || message === null) return;
    if (message.type === "welcome" && !PROTOCOL_VERSIONS.includes(message.protocol)) {
      this.#hear({ type: "refuse", reason: `it speaks protocol version ${message.protocol}, which this worker does not`, retry: true });
    } else if (message.type === "welcome") {
      this.#welcomed = true;
      this.#refusal = undefined;
      this.#retryMs = FIRST_RETRY_MS;
      this.#everTold = true;
      this.#handlers.welcomed(message.takesOutput === true);
    } else if (message.type === "refuse") {
      this.problem = `it refuses this worker: ${message.reason}`;
      if (!message.retry) this.#handlers.refusedForGood(message.reason);
      else if (this.#refusal !== message.reason) this.#handlers.log(`the supervisor refuses this worker for now: ${message.reason}`);
      this.#refusal = message.reason;
      const refused = this.#connection;
      refused?.close();
      if (refused !== undefined) this.#closed(refused, this.problem);
    } else if (this.#welcomed) this.#handlers.message(message);
  }
}
