import { readdirSync, readFileSync } from "node:fs";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest, Agent as TlsAgent } from "node:https";
import { join } from "node:path";
import { formatDuration } from "@berth/duration";
import { VaultError } from "./errors.ts";
import type { TlsSettings, VaultSettings } from "./settings.ts";

/** One request as node-vault puts it together, plus the signal that rides along in its request options. */
export interface TransportRequest {
  uri: string;
  method: string;
  headers: Record<string, string>;
  json?: unknown;
  signal?: AbortSignal;
  /** Error statuses are answers: sys/health tells its state by them. */
  anyStatus?: boolean;
}

export interface TransportAnswer {
  statusCode: number;
  body: unknown;
  request: { path: string };
}

/** Vault keeps no entry over 1 MiB. The bound also matters because a thread that runs out of memory inside JSON.parse takes the process along. */
const MAX_ANSWER_BYTES = 2 * 1024 * 1024;
/** A standby sends its client on to the active node once. */
const MAX_REDIRECTS = 2;
const MAX_WORDS = 200;
const TLS_CODES = /^(CERT_|ERR_TLS_|ERR_SSL_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|EPROTO$|HOSTNAME_MISMATCH)/;

/**
 * The HTTP below node-vault, handed to it in place of its own axios, which has no deadline, no signal and no typed errors:
 * every request ends by `requestTimeoutMs`, its caller's signal, an answer of known shape or a {@link VaultError}.
 */
export class Transport {
  readonly #settings: VaultSettings;
  readonly #plain: Agent;
  #secure: TlsAgent | undefined;

  constructor(settings: VaultSettings) {
    this.#settings = settings;
    this.#plain = new Agent({ keepAlive: true, maxSockets: settings.concurrency + 4, ...proxyFor(settings.address) });
  }

  async send(request: TransportRequest): Promise<TransportAnswer> {
    const { requestTimeoutMs, address } = this.#settings;
    const deadline = AbortSignal.timeout(requestTimeoutMs);
    const signal = request.signal === undefined ? deadline : AbortSignal.any([request.signal, deadline]);
    try {
      return await this.#follow(request, signal);
    } catch (error) {
      if (request.signal?.aborted) throw request.signal.reason;
      if (deadline.aborted)
        throw new VaultError("timeout", `Vault at ${address} gave no answer within ${formatDuration(requestTimeoutMs)}`);
      throw this.#typed(error);
    }
  }

  close(): void {
    this.#plain.destroy();
    this.#secure?.destroy();
  }

  async #follow(request: TransportRequest, signal: AbortSignal): Promise<TransportAnswer> {
    let url = new URL(request.uri);
    for (let hop = 0; ; hop++) {
      const { response, text } = await this.#exchange(url, request, signal);
      const status = response.statusCode ?? 0;
      const location = response.headers.location;
      if ([301, 302, 307, 308].includes(status) && location !== undefined && hop < MAX_REDIRECTS) {
        url = redirected(url, location);
        continue;
      }
      return this.#answer(url, request, response, text);
    }
  }

  async #exchange(url: URL, request: TransportRequest, signal: AbortSignal): Promise<{ response: IncomingMessage; text: string }> {
    for (let send = 1; ; send++) {
      try {
        return await exchange(url, request, url.protocol === "https:" ? this.#tlsAgent() : this.#plain, signal);
      } catch (error) {
        // Vault closed an idle connection in the moment it was used again: nothing was processed.
        if (!(error instanceof StaleConnection) || send > 1) throw error instanceof StaleConnection ? error.cause : error;
      }
    }
  }

  #answer(url: URL, request: TransportRequest, response: IncomingMessage, text: string): TransportAnswer {
    const status = response.statusCode ?? 0;
    const body = parseAnswer(text);
    if (request.anyStatus || status === 200) {
      if (body === undefined) {
        const kind = status >= 500 ? "server" : "malformed";
        throw new VaultError(kind, `Vault at ${this.#settings.address} answered ${status} with something that is not JSON`, { status });
      }
      return { statusCode: status, body, request: { path: url.pathname } };
    }
    if (status === 204 || status === 202) return { statusCode: 204, body: undefined, request: { path: url.pathname } };
    throw this.#refusal(status, body, request, response.headers["retry-after"]);
  }

  #refusal(status: number, body: unknown, request: TransportRequest, retryAfter: string | undefined): VaultError {
    const { address } = this.#settings;
    const words = wordsFrom(body, secretsOf(request));
    const said = words === "" ? `status ${status}` : `${status}: ${words}`;
    switch (status) {
      case 400:
        return new VaultError("rejected", words === "" ? "status 400" : words, { status });
      case 403:
        return new VaultError(
          /invalid token|bad token|token expired/i.test(words) ? "invalidToken" : "denied",
          words || "permission denied",
          { status },
        );
      case 404:
        return new VaultError("missing", words || "nothing is there", { status });
      case 429: {
        const seconds = Number(retryAfter);
        return new VaultError("rateLimited", `Vault at ${address} asks for fewer requests (429)`, {
          status,
          ...(Number.isFinite(seconds) && seconds > 0 ? { retryAfterMs: Math.min(seconds, 60) * 1000 } : {}),
        });
      }
      case 501:
        return new VaultError("sealed", `Vault at ${address} is not initialised`, { status });
      case 503:
        return new VaultError("sealed", `Vault at ${address} is sealed or not serving (${said})`, { status });
      default:
        return new VaultError("server", `Vault at ${address} answered ${said}`, { status });
    }
  }

  #typed(error: unknown): VaultError {
    if (error instanceof VaultError) return error;
    const { address } = this.#settings;
    const code = String((error as NodeJS.ErrnoException).code ?? (error as Error).message);
    if (!TLS_CODES.test(code)) return new VaultError("unreachable", `Vault at ${address} cannot be reached (${code})`, { cause: error });
    // The files may have been replaced by now; the next request reads them again.
    this.#secure?.destroy();
    this.#secure = undefined;
    return new VaultError(
      "tls",
      `the TLS connection to Vault at ${address} fails (${code}); check VAULT_CACERT, VAULT_TLS_SERVER_NAME and the certificates`,
      {
        cause: error,
      },
    );
  }

  #tlsAgent(): TlsAgent {
    this.#secure ??= new TlsAgent({
      keepAlive: true,
      maxSockets: this.#settings.concurrency + 4,
      ...tlsOptions(this.#settings.tls),
      ...proxyFor(this.#settings.address),
    });
    return this.#secure;
  }
}

/** Marks a request that died on a connection that had served before. */
class StaleConnection extends Error {}

function exchange(
  url: URL,
  request: TransportRequest,
  agent: Agent,
  signal: AbortSignal,
): Promise<{ response: IncomingMessage; text: string }> {
  const payload = request.json === undefined ? undefined : JSON.stringify(request.json);
  const headers = {
    ...request.headers,
    ...(payload === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(payload) }),
  };
  return new Promise((resolve, reject) => {
    const outgoing = (url.protocol === "https:" ? httpsRequest : httpRequest)(url, { method: request.method, headers, agent, signal });
    outgoing.on("error", (error: NodeJS.ErrnoException) => {
      const stale = outgoing.reusedSocket && (error.code === "ECONNRESET" || error.code === "EPIPE");
      reject(stale ? new StaleConnection("stale", { cause: error }) : error);
    });
    outgoing.on("response", (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on("data", (chunk: Buffer) => {
        size += chunk.length;
        chunks.push(chunk);
        if (size > MAX_ANSWER_BYTES) outgoing.destroy(new VaultError("malformed", `the answer is larger than ${MAX_ANSWER_BYTES} bytes`));
      });
      response.on("error", reject);
      response.on("end", () => resolve({ response, text: Buffer.concat(chunks).toString("utf8") }));
    });
    outgoing.end(payload);
  });
}

function redirected(from: URL, location: string): URL {
  const to = URL.parse(location, from.href);
  const safe = to !== null && (to.protocol === "https:" || (to.protocol === "http:" && from.protocol === "http:"));
  if (!safe) throw new VaultError("malformed", "Vault sends us on to an address without TLS");
  return to;
}

/**
 * JSON in which a number that JavaScript would change (a long id, "1.0") stays the text that was stored. Undefined where the
 * text is not JSON.
 */
export function parseAnswer(text: string): unknown {
  try {
    return JSON.parse(text, keepNumbers as never);
  } catch {
    return undefined;
  }
}

function keepNumbers(_key: string, value: unknown, context: { source?: string }): unknown {
  return typeof value === "number" && context.source !== undefined && String(value) !== context.source ? context.source : value;
}

/** What Vault says about an error, cut and made one line, without anything that we sent in confidence. */
function wordsFrom(body: unknown, secrets: string[]): string {
  const errors = typeof body === "object" && body !== null ? (body as { errors?: unknown }).errors : undefined;
  if (!Array.isArray(errors)) return "";
  let words = errors
    .filter((error) => typeof error === "string")
    .join("; ")
    .replace(/[\p{Cc}\s]+/gu, " ")
    .replace(/^\d+ errors? occurred: \* /, "")
    .replaceAll(" * ", ", ")
    .trim();
  for (const secret of secrets) words = words.replaceAll(secret, "…");
  return words.slice(0, MAX_WORDS);
}

function secretsOf(request: TransportRequest): string[] {
  const secrets: string[] = [];
  const token = request.headers["X-Vault-Token"];
  if (token) secrets.push(token);
  if (typeof request.json !== "object" || request.json === null) return secrets;
  for (const [name, value] of Object.entries(request.json)) {
    if (/password|secret_id|token/.test(name) && typeof value === "string" && value !== "") secrets.push(value);
  }
  return secrets;
}

function tlsOptions(tls: TlsSettings): Record<string, unknown> {
  const authorities: Buffer[] = [];
  if (tls.caFile !== undefined) authorities.push(readPem("VAULT_CACERT", tls.caFile));
  else if (tls.caDirectory !== undefined) authorities.push(...readDirectory(tls.caDirectory));
  return {
    rejectUnauthorized: !tls.skipVerify,
    ...(authorities.length > 0 ? { ca: authorities } : {}),
    ...(tls.certificateFile === undefined ? {} : { cert: readPem("VAULT_CLIENT_CERT", tls.certificateFile) }),
    ...(tls.keyFile === undefined ? {} : { key: readPem("VAULT_CLIENT_KEY", tls.keyFile) }),
    ...(tls.serverName === undefined ? {} : { servername: tls.serverName }),
  };
}

function readPem(variable: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new VaultError("tls", `the file of ${variable} cannot be read: ${(error as NodeJS.ErrnoException).code} ${path}`, {
      cause: error,
    });
  }
}

function readDirectory(directory: string): Buffer[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => readPem("VAULT_CAPATH", join(directory, entry.name)));
  } catch (error) {
    if (error instanceof VaultError) throw error;
    throw new VaultError("tls", `the directory of VAULT_CAPATH cannot be read: ${(error as NodeJS.ErrnoException).code} ${directory}`, {
      cause: error,
    });
  }
}

/** HTTP(S)_PROXY and NO_PROXY as Vault's own client has them: never for the host itself. */
function proxyFor(address: string): object {
  const { hostname } = new URL(address);
  return /^(localhost|127\.|\[::1\])/.test(hostname) ? {} : { proxyEnv: process.env };
}
