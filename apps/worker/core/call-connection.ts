import { type AgentEndpoint, encodeRequest } from "./agent-endpoint.ts";
import type { Connection, Host } from "./host.ts";
import { ResponseParser } from "./http-response.ts";

/** What became of a call. `status` 0: there was no whole answer, and `text` says why. */
export interface CallResult {
  status: number;
  text: string;
}

/** How long the agent may take for an answer, milliseconds. */
const ANSWER_TIMEOUT_MS = 10_000;
/** Of an answer's body, for a log line. */
const MAX_TEXT_BYTES = 2048;

/**
 * The connection for every call but SUBSCRIBE: kept alive, one call at a time. Calls on several connections could overtake
 * each other, and the agent would see updates of a task in the wrong order.
 */
export class CallConnection {
  readonly #host: Host;
  readonly #endpoint: AgentEndpoint;
  #connection: Connection | undefined;
  #open = false;
  #done: ((result: CallResult) => void) | undefined;
  #request: Uint8Array | undefined;
  #timer: number | undefined;
  #status = 0;
  #text = "";

  constructor(host: Host, endpoint: AgentEndpoint) {
    this.#host = host;
    this.#endpoint = endpoint;
  }

  get busy(): boolean {
    return this.#done !== undefined;
  }

  /** Sends one call; must not be busy. `done` is called once. */
  send(json: string, done: (result: CallResult) => void): void {
    this.#done = done;
    this.#request = encodeRequest(this.#host, this.#endpoint, this.#host.encodeUtf8(json));
    this.#timer = this.#host.setTimer(ANSWER_TIMEOUT_MS, () => this.#fail(`no answer within ${ANSWER_TIMEOUT_MS} ms`));
    if (this.#connection === undefined) this.#connect();
    else if (this.#open) this.#write();
  }

  close(): void {
    this.#connection?.close();
    this.#connection = undefined;
    this.#open = false;
  }

  #connect(): void {
    const parser = new ResponseParser({
      head: (status) => {
        this.#status = status;
        this.#text = "";
      },
      body: (bytes) => {
        if (this.#text.length < MAX_TEXT_BYTES) this.#text += this.#host.decodeUtf8(bytes);
      },
      end: () => this.#finish({ status: this.#status, text: this.#text.slice(0, MAX_TEXT_BYTES) }),
    });
    const connection: Connection = this.#endpoint.connect(this.#host, {
      open: () => {
        this.#open = true;
        this.#write();
      },
      data: (bytes) => {
        try {
          parser.push(bytes);
        } catch (error) {
          this.#fail(error instanceof Error ? error.message : "bad HTTP");
        }
      },
      close: (error) => {
        if (this.#connection !== connection) return;
        parser.closed();
        this.#fail(error ?? "the agent closed the connection");
      },
    });
    this.#connection = connection;
  }

  #write(): void {
    if (this.#request === undefined) return;
    this.#connection?.write(this.#request);
    this.#request = undefined;
  }

  #fail(why: string): void {
    this.close();
    this.#finish({ status: 0, text: why });
  }

  #finish(result: CallResult): void {
    const done = this.#done;
    if (this.#timer !== undefined) this.#host.clearTimer(this.#timer);
    this.#timer = undefined;
    this.#done = undefined;
    this.#request = undefined;
    done?.(result);
  }
}
