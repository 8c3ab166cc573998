import { type IncomingMessage, request } from "node:http";
import { createInterface } from "node:readline";
import { AnswerMisfit, type AnswerSchema, ErrorBody, readAnswer } from "@berth/admin-api";
import { VERSION } from "./version.ts";

/** An answer as it was read, and as it came: that has also what this program does not know of. */
export interface Answer<Value> {
  value: Value;
  /** JSON in one line. */
  text: string;
}

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

  /** One request. Throws an {@link AdminFailure} also where the answer is not what the schema says. */
  async ask<Value>(schema: AnswerSchema<Value>, method: "GET" | "POST", path: string, body?: unknown): Promise<Answer<Value>> {
    const text = (await this.#text(method, path, body)).trim();
    return { value: await this.#read(schema, path, parseJson(text)), text };
  }

  /** One request; resolves with the answer's JSON, of whose shape only the caller is sure. */
  async call<Value>(method: "GET" | "POST", path: string, body?: unknown): Promise<Value> {
    return JSON.parse(await this.#text(method, path, body)) as Value;
  }

  /** One request whose answer is text. */
  async text(path: string): Promise<string> {
    return await this.#text("GET", path);
  }

  /** A stream of JSON lines, until it ends or the signal aborts. Throws what berthd says at its end, and where it breaks off. */
  async *lines<Line>(schema: AnswerSchema<Line>, path: string, signal?: AbortSignal): AsyncGenerator<Answer<Line>> {
    const response = await this.#open("GET", path, undefined, signal);
    try {
      for await (const text of createInterface({ input: response })) {
        const json = parseJson(text);
        // What was on its way when it broke off is no whole line.
        if (json === undefined && !response.complete) break;
        const failed = errorIn(json);
        if (failed !== undefined) throw new AdminFailure(failed);
        yield { value: await this.#read(schema, path, json), text };
      }
    } catch (error) {
      if (error instanceof AdminFailure || (signal?.aborted !== true && response.complete)) throw error;
    }
    if (!response.complete && signal?.aborted !== true)
      throw new AdminFailure(`berthd at ${this.socketPath} broke off: it was stopped or restarted, or it died. Ask again`);
  }

  async #text(method: "GET" | "POST", path: string, body?: unknown): Promise<string> {
    let text = "";
    for await (const chunk of await this.#open(method, path, body)) text += String(chunk);
    return text;
  }

  async #read<Value>(schema: AnswerSchema<Value>, path: string, json: unknown): Promise<Value> {
    try {
      return readAnswer(schema, json);
    } catch (error) {
      if (!(error instanceof AnswerMisfit)) throw error;
      const asked = path.replace(/\?.*/, "");
      throw new AdminFailure(
        `berthd ${await this.#version()} at ${this.socketPath} does not fit this berth, which is ${VERSION}: ` +
          `it answers ${asked} otherwise: ${error.message}. Where berth was upgraded: systemctl restart berthd (tasks run on)`,
      );
    }
  }

  /** berthd's version, also of one that says little else in a way that is known here. */
  async #version(): Promise<string> {
    const info = await this.call<{ version?: unknown } | null>("GET", "/v1/info").catch(() => null);
    return typeof info?.version === "string" ? info.version : "of an unknown version";
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

/** Undefined for what is no JSON. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function readError(response: AsyncIterable<unknown>): Promise<string> {
  let text = "";
  for await (const chunk of response) text += String(chunk);
  return errorIn(parseJson(text)) ?? text;
}

/** What an answer tells that is nothing but an error; undefined for any other. A schema that does not fit takes its time, and most lines are no error. */
function errorIn(json: unknown): string | undefined {
  if (typeof json !== "object" || json === null || !("error" in json) || Object.keys(json).length > 1) return undefined;
  return ErrorBody.safeParse(json).data?.error;
}
