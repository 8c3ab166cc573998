import nodeVault from "node-vault";
import { VaultError } from "./errors.ts";
import type { VaultSettings } from "./settings.ts";
import { isRecord, secondsFrom, stringsFrom } from "./shapes.ts";
import { Transport, type TransportRequest } from "./transport.ts";
import type { VaultCounters } from "./types.ts";

/** A Vault answer with its shape checked. Durations in milliseconds. */
export interface VaultAnswer {
  /** Empty where the answer has none. */
  data: Record<string, unknown>;
  /** Empty for an answer without a lease. */
  leaseId: string;
  leaseDurationMs: number;
  renewable: boolean;
  auth?: VaultAuth;
}

/** What a login or a renewal gives. */
export interface VaultAuth {
  token: string;
  accessor?: string;
  policies: string[];
  ttlMs: number;
  renewable: boolean;
}

export type Health = { ok: true } | { ok: false; state: "sealed" | "unreachable" | "failing"; problem: string };

/** The few functions of node-vault that are used; its own types are all `any`. */
interface NodeVaultClient {
  token: string;
  pathPrefix: string;
  namespace: string;
  read(path: string, options: object): Promise<unknown>;
  write(path: string, body: object, options: object): Promise<unknown>;
  request(options: object): Promise<unknown>;
}

/**
 * The only file that knows node-vault. The library keeps the API's addresses and headers; everything around a request that it
 * lacks (deadlines, signals, TLS settings, typed errors, a bound on the answer) comes from our {@link Transport}.
 *
 * Three of its habits are switched off here: it reads VAULT_TOKEN, VAULT_PREFIX and VAULT_NAMESPACE from the environment by itself; it
 * keeps the token of the last login and sends it with every later request; with DEBUG=node-vault it prints passwords.
 */
export class VaultApi {
  readonly #settings: VaultSettings;
  readonly #counters: VaultCounters;
  readonly #transport: Transport;
  readonly #client: NodeVaultClient;

  constructor(settings: VaultSettings, counters: VaultCounters) {
    this.#settings = settings;
    this.#counters = counters;
    this.#transport = new Transport(settings);
    this.#client = nodeVault({
      apiVersion: "v1",
      endpoint: settings.address,
      debug: () => {},
      "request-promise": { defaults: () => (request: TransportRequest) => this.#transport.send(request) },
    }) as unknown as NodeVaultClient;
    this.#client.token = "";
    this.#client.pathPrefix = "";
    this.#client.namespace = settings.namespace ?? "";
  }

  /** GET /v1/<path>; `path` is encoded already and may carry a query. */
  async read(path: string, token: string, signal?: AbortSignal): Promise<VaultAnswer> {
    return this.#counted(() => this.#client.read(path, requestOptions(token, signal)));
  }

  /** POST /v1/<path>. Without a token for logins. */
  async write(path: string, body: object, token: string | undefined, signal?: AbortSignal): Promise<VaultAnswer> {
    return this.#counted(() => this.#client.write(path, body, requestOptions(token, signal)));
  }

  /** GET /v1/sys/health, which needs no token and is in no audit log. Never throws. */
  async health(signal?: AbortSignal): Promise<Health> {
    const { address } = this.#settings;
    this.#counters.requests += 1;
    try {
      const options = {
        ...requestOptions(undefined, signal),
        anyStatus: true,
        path: "/sys/health?standbyok=true&perfstandbyok=true",
        method: "GET",
      };
      const body = (await this.#client.request(options)) as { sealed?: unknown; initialized?: unknown } | null;
      if (body?.initialized === false) return { ok: false, state: "sealed", problem: `Vault at ${address} is not initialised` };
      if (body?.sealed === true) return { ok: false, state: "sealed", problem: `Vault at ${address} is sealed` };
      return { ok: true };
    } catch (error) {
      const failed = error instanceof VaultError ? error : new VaultError("unreachable", String(error));
      return {
        ok: false,
        state: failed.kind === "server" || failed.kind === "malformed" ? "failing" : "unreachable",
        problem: failed.message,
      };
    }
  }

  close(): void {
    this.#transport.close();
  }

  async #counted(call: () => Promise<unknown>): Promise<VaultAnswer> {
    this.#counters.requests += 1;
    try {
      return answerFrom(await call());
    } catch (error) {
      this.#counters.requestFailures += 1;
      throw error;
    }
  }
}

function requestOptions(token: string | undefined, signal: AbortSignal | undefined): object {
  return {
    headers: { "X-Vault-Request": "true", ...(token === undefined ? {} : { "X-Vault-Token": token }) },
    ...(signal === undefined ? {} : { signal }),
  };
}

/** Checks an answer of any shape; throws `malformed` where it cannot be Vault's. Exported for its property test. */
export function answerFrom(body: unknown): VaultAnswer {
  if (body === undefined) return { data: {}, leaseId: "", leaseDurationMs: 0, renewable: false };
  if (!isRecord(body)) throw new VaultError("malformed", "Vault's answer is not a JSON object");
  const auth = body.auth === undefined || body.auth === null ? undefined : authFrom(body.auth);
  return {
    data: isRecord(body.data) ? body.data : {},
    leaseId: typeof body.lease_id === "string" ? body.lease_id : "",
    leaseDurationMs: secondsFrom(body.lease_duration),
    renewable: body.renewable === true,
    ...(auth === undefined ? {} : { auth }),
  };
}

function authFrom(auth: unknown): VaultAuth {
  if (!isRecord(auth) || typeof auth.client_token !== "string" || !/^[\x21-\x7e]{1,8192}$/.test(auth.client_token)) {
    throw new VaultError("malformed", "Vault's answer to the login holds no token");
  }
  return {
    token: auth.client_token,
    ...(typeof auth.accessor === "string" && auth.accessor !== "" ? { accessor: auth.accessor } : {}),
    policies: stringsFrom(auth.policies),
    ttlMs: secondsFrom(auth.lease_duration),
    renewable: auth.renewable === true,
  };
}
