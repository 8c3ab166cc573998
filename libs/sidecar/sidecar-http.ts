import { createHash } from "node:crypto";
import http from "node:http";
import { pause } from "@berth/retry";
import type { DrainAnswer, DrainRequest, SidecarSettings } from "./types.ts";

export const DEFAULT_MAX_STATE = 64 * 1024 * 1024;
const KEEP_ALIVE_MS = 30_000;

/** One answer of the state; without a body it is the one that is known already. */
export interface StateAnswer {
  body?: Buffer;
  /** Of the HTTP answer. */
  status: number;
  fingerprint: string;
}

/** Sidecar's HTTP API as Berth uses it: state, watch stream, drain. One kept-alive connection for states. */
export class SidecarHttp {
  readonly #settings: SidecarSettings;
  #client: typeof http | undefined;
  #agent: http.Agent | undefined;
  requests = 0;
  bytes = 0;
  /** Something has answered here. */
  answered = false;

  constructor(settings: SidecarSettings) {
    this.#settings = settings;
  }

  /** The state, read whole. The status code counts for nothing where the body is a state, as with the incumbent. */
  async state(known: string, signal: AbortSignal): Promise<StateAnswer> {
    const limit = this.#settings.maxStateBytes ?? DEFAULT_MAX_STATE;
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(this.#settings.timeoutMs)]);
    const etag = known.startsWith("etag ") ? known.slice(5) : undefined;
    const url = new URL(this.#settings.url);
    const response = await this.#request("GET", url, deadline, etag === undefined ? {} : { "if-none-match": etag });
    if (response.statusCode === 304) {
      response.resume();
      return { status: 304, fingerprint: known };
    }
    const body = await readBody(response, limit, deadline);
    this.bytes += body.length;
    const tag = response.headers.etag;
    // Length first, by the comparison of the texts; the hash costs no more than looking for our host's part.
    const fingerprint = typeof tag === "string" ? `etag ${tag}` : `${body.length} ${createHash("sha1").update(body).digest("base64")}`;
    const status = response.statusCode ?? 0;
    return fingerprint === known ? { status, fingerprint } : { status, body, fingerprint };
  }

  /** Hands on the chunks of the watch stream until it ends or breaks. False when Sidecar does not offer it. */
  async watch(signal: AbortSignal, onChunk: (chunk: Buffer) => void): Promise<boolean> {
    const url = new URL("/api/watch?by_service=false", this.#settings.url);
    // A first state must come within the deadline of a request; afterwards silence is normal.
    const opening = new AbortController();
    const timer = setTimeout(() => opening.abort(new Error("no answer in time")), this.#settings.timeoutMs);
    try {
      const response = await this.#request("GET", url, AbortSignal.any([signal, opening.signal]), {}, true);
      if (response.statusCode === 404) {
        response.destroy();
        return false;
      }
      if (response.statusCode !== 200) {
        response.destroy();
        throw new Error(`GET ${url.pathname} was answered with ${response.statusCode}`);
      }
      for await (const chunk of response as AsyncIterable<Buffer>) {
        clearTimeout(timer);
        this.bytes += chunk.length;
        onChunk(chunk);
      }
      throw new Error("the watch stream ended");
    } finally {
      clearTimeout(timer);
    }
  }

  /** Asks Sidecar to drain a service; tries again as told, and says why it was not accepted. */
  async drain(
    { serviceId, retryCount, retryDelayMs, known }: Pick<DrainRequest, "serviceId" | "retryCount" | "retryDelayMs" | "known">,
    signal: AbortSignal,
  ): Promise<DrainAnswer> {
    const url = new URL(`/api/services/${encodeURIComponent(serviceId)}/drain`, this.#settings.url);
    for (let attempt = 0; ; attempt++) {
      let problem: string;
      let pointless = false;
      try {
        const response = await this.#request("POST", url, AbortSignal.any([signal, AbortSignal.timeout(this.#settings.timeoutMs)]), {
          "content-length": "0",
        });
        response.resume();
        if (response.statusCode === 202) return { accepted: true };
        pointless = response.statusCode === 404 && !known;
        problem =
          response.statusCode === 404 ? `Sidecar does not know the service ${serviceId}` : `Sidecar answered ${response.statusCode}`;
      } catch (error) {
        signal.throwIfAborted();
        pointless = !known && !this.answered && codeOf(error) === "ECONNREFUSED";
        problem = reasonOf(error);
      }
      if (pointless) return { accepted: false, problem, pointless };
      if (attempt >= retryCount) return { accepted: false, problem };
      await pause(retryDelayMs, signal);
    }
  }

  close(): void {
    this.#agent?.destroy();
  }

  async #request(
    method: "GET" | "POST",
    url: URL,
    signal: AbortSignal,
    headers: Record<string, string>,
    alone = false,
  ): Promise<http.IncomingMessage> {
    if (this.#client === undefined) {
      this.#client = url.protocol === "https:" ? ((await import("node:https")).default as unknown as typeof http) : http;
      this.#agent = new this.#client.Agent({ keepAlive: true, maxSockets: 64, maxFreeSockets: 1 });
    }
    const client = this.#client;
    this.requests += 1;
    return new Promise((resolve, reject) => {
      const sent = client.request(url, { method, headers, signal, agent: alone ? false : this.#agent });
      if (alone) sent.on("socket", (socket) => socket.setKeepAlive(true, KEEP_ALIVE_MS));
      sent.on("response", (response) => {
        this.answered = true;
        resolve(response);
      });
      sent.on("error", (error) => reject(signal.aborted ? (signal.reason as Error) : error));
      sent.end();
    });
  }
}

/** An attempt at several addresses of one name fails with an error that says nothing itself. */
function firstOf(error: unknown): Error & { code?: string } {
  return error instanceof AggregateError && error.errors[0] instanceof Error ? error.errors[0] : (error as Error);
}

function codeOf(error: unknown): string | undefined {
  return firstOf(error).code;
}

/** Why a request came to nothing, never empty. */
export function reasonOf(error: unknown): string {
  const { message, code } = firstOf(error);
  return message || code || String(error);
}

/** A URL without the user and the password that may be in it. */
export function withoutUser(url: string): string {
  const shown = new URL(url);
  shown.username = "";
  shown.password = "";
  return shown.href;
}

/** Reads an answer to its end; rejects when it is cut off, too long or late. */
export async function readBody(response: http.IncomingMessage, limit: number, signal: AbortSignal): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > limit) throw new Error(`the answer is over ${limit} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    response.destroy();
    throw signal.aborted ? signal.reason : error;
  }
  return Buffer.concat(chunks, length);
}
