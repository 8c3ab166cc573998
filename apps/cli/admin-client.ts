import { type IncomingMessage, request } from "node:http";
import { createInterface } from "node:readline";

/** The supervisor answered with an error, or could not be reached; the message is for the person at the terminal. */
export class AdminFailure extends Error {
  override readonly name = "AdminFailure";
  /** HTTP status, or undefined when there was no answer. */
  readonly status: number | undefined;

  constructor(message: string, status?: number) {
    super(message);
    this.status = status;
  }
}

/** Speaks HTTP/JSON to berthd over its admin socket. */
export class AdminClient {
  readonly socketPath: string;

  constructor(socketPath: string) {
    this.socketPath = socketPath;
  }

  /** One request; resolves with the parsed JSON answer. */
  async call<Answer>(method: "GET" | "POST", path: string, body?: unknown): Promise<Answer> {
    let text = "";
    for await (const chunk of await this.#open(method, path, body)) text += String(chunk);
    return JSON.parse(text) as Answer;
  }

  /** One request whose answer is text. */
  async text(path: string): Promise<string> {
    let text = "";
    for await (const chunk of await this.#open("GET", path)) text += String(chunk);
    return text;
  }

  /** A stream of JSON lines, until it ends or the signal aborts. Throws what berthd says at its end, and where it breaks off. */
  async *lines<Line extends object>(path: string, signal?: AbortSignal): AsyncGenerator<Line> {
    const response = await this.#open("GET", path, undefined, signal);
    try {
      for await (const text of createInterface({ input: response })) {
        // What was on its way when it broke off is no whole line.
        const line = parse<Line | { error: string }>(text);
        if (line === undefined) break;
        if ("error" in line && Object.keys(line).length === 1) throw new AdminFailure(line.error);
        yield line as Line;
      }
    } catch (error) {
      if (signal?.aborted !== true && response.complete) throw error;
    }
    if (!response.complete && signal?.aborted !== true)
      throw new AdminFailure(`berthd at ${this.socketPath} broke off: it was stopped or restarted, or it died. Ask again`);
  }

  #open(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const options = { socketPath: this.socketPath, method, path, headers: { "content-type": "application/json" } };
      const sent = request(signal === undefined ? options : { ...options, signal }, (response) => {
        response.setEncoding("utf8");
        if (response.statusCode === 200) return resolve(response);
        readError(response).then((message) => reject(new AdminFailure(message, response.statusCode)), reject);
      });
      sent.on("error", (error: NodeJS.ErrnoException) => reject(new AdminFailure(this.#unreachable(error))));
      sent.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  #unreachable(error: NodeJS.ErrnoException): string {
    const hints: Record<string, string> = {
      ENOENT: "there is no such socket: is berthd running? (systemctl status berthd; BERTH_SOCKET names another socket)",
      ECONNREFUSED: "nobody listens there: berthd is not running (systemctl start berthd)",
      EACCES: "you may not open it: run as root or join the group berth",
    };
    return `cannot reach berthd at ${this.socketPath}: ${hints[error.code ?? ""] ?? error.message}`;
  }
}

function parse<Value>(text: string): Value | undefined {
  try {
    return JSON.parse(text) as Value;
  } catch {
    return undefined;
  }
}

async function readError(response: AsyncIterable<unknown>): Promise<string> {
  let text = "";
  for await (const chunk of response) text += String(chunk);
  try {
    return (JSON.parse(text) as { error: string }).error;
  } catch {
    return text;
  }
}
