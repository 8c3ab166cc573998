import { request } from "node:http";
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

  /** A stream of JSON lines, until it ends or the signal aborts. */
  async *lines<Line>(path: string, signal?: AbortSignal): AsyncGenerator<Line> {
    const response = await this.#open("GET", path, undefined, signal);
    try {
      for await (const line of createInterface({ input: response })) yield JSON.parse(line) as Line;
    } catch (error) {
      if (signal?.aborted !== true) throw error;
    }
  }

  #open(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<NodeJS.ReadableStream> {
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

async function readError(response: AsyncIterable<unknown>): Promise<string> {
  let text = "";
  for await (const chunk of response) text += String(chunk);
  try {
    return (JSON.parse(text) as { error: string }).error;
  } catch {
    return text;
  }
}
