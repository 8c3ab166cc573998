import { hasKind, VaultError } from "./errors.ts";
import { Mounts } from "./mounts.ts";
import { encodePath } from "./reference.ts";
import type { Semaphore } from "./semaphore.ts";
import { isRecord } from "./shapes.ts";
import type { HeldToken } from "./token.ts";
import type { VaultCounters } from "./types.ts";
import type { VaultAnswer } from "./vault-api.ts";

/** What a path gave: its fields, and the lease that they hang on, if they do. */
export interface SecretAnswer {
  /** The API path that was read: "secret/data/app". For messages and lease records. */
  apiPath: string;
  fields: Record<string, unknown>;
  lease?: { id: string; durationMs: number; renewable: boolean; token: HeldToken };
}

export interface SecretReaderOptions {
  /** One authenticated GET; `path` is encoded, `mayLease` says whether a lease may come of it. Fails by a VaultError. */
  read: (path: string, mayLease: boolean) => Promise<{ answer: VaultAnswer; token: HeldToken }>;
  cacheMs: number;
  limit: Semaphore;
  counters: VaultCounters;
  now: () => number;
}

interface Cached {
  answer: SecretAnswer;
  until: number;
}

/**
 * Reads secrets so that a burst of launches costs one request per path: whoever asks for a path that is being read shares the
 * answer, and for a short time after that the answer is kept.
 *
 * INVARIANTS: an answer with a lease goes to exactly one task and is never kept; failures are shared by those who waited for them and never
 * kept; no more than `limit` requests are under way.
 */
export class SecretReader {
  readonly #options: SecretReaderOptions;
  readonly #mounts: Mounts;
  readonly #underWay = new Map<string, Promise<SecretAnswer>>();
  readonly #cache = new Map<string, Cached>();

  constructor(options: SecretReaderOptions) {
    this.#options = options;
    this.#mounts = new Mounts(async (path) => (await options.limit.run(() => options.read(path, false))).answer);
  }

  get cached(): number {
    this.#dropOld();
    return this.#cache.size;
  }

  /** The fields at `path` (as in a reference, without KV v2's "data/"). Throws a VaultError. */
  async read(path: string, version: number | undefined): Promise<SecretAnswer> {
    const mount = await this.#mounts.of(path);
    if (version !== undefined && mount.kind !== "kv2")
      throw new VaultError("rejected", `${mount.path} keeps no versions: @${version} needs a KV v2 mount`);
    const apiPath = mount.kind === "kv2" ? kv2Path(mount.path, path) : path;
    const request = encodePath(apiPath) + (version === undefined ? "" : `?version=${version}`);
    // Only a key-value mount is known to give everyone the same answer; anything else may make credentials per request.
    if (mount.kind === "other") return this.#fetch(apiPath, request, { nested: false, mayLease: true });
    const nested = mount.kind === "kv2";
    const { now, counters, cacheMs } = this.#options;
    const cached = this.#cache.get(request);
    if (cached !== undefined && now() < cached.until) {
      counters.cacheHits += 1;
      return cached.answer;
    }
    const shared = this.#underWay.get(request);
    if (shared !== undefined) {
      const answer = await shared;
      if (answer.lease !== undefined) return this.#fetch(apiPath, request, { nested, mayLease: true });
      counters.sharedReads += 1;
      return answer;
    }
    const reading = this.#fetch(apiPath, request, { nested, mayLease: false }).finally(() => this.#underWay.delete(request));
    this.#underWay.set(request, reading);
    const answer = await reading;
    if (cacheMs > 0 && answer.lease === undefined) this.#keep(request, answer);
    return answer;
  }

  /** Another identity may see other things. */
  forget(): void {
    this.#cache.clear();
  }

  async #fetch(apiPath: string, request: string, { nested, mayLease }: { nested: boolean; mayLease: boolean }): Promise<SecretAnswer> {
    const { read, limit, counters } = this.#options;
    counters.secretReads += 1;
    const { answer, token } = await limit
      .run(() => read(request, mayLease))
      .catch((error: unknown) => {
        // The mount may have been replaced, or turned from v1 into v2, since it was asked for.
        if (hasKind(error, "missing")) this.#mounts.forget();
        throw error;
      });
    const { leaseId, leaseDurationMs: durationMs, renewable } = answer;
    return {
      apiPath,
      fields: nested ? nestedFields(answer.data, apiPath) : answer.data,
      ...(leaseId === "" ? {} : { lease: { id: leaseId, durationMs, renewable, token } }),
    };
  }

  #keep(request: string, answer: SecretAnswer): void {
    const { now, cacheMs } = this.#options;
    this.#dropOld();
    this.#cache.set(request, { answer, until: now() + cacheMs });
    setTimeout(() => this.#dropOld(), cacheMs + 1).unref();
  }

  #dropOld(): void {
    const now = this.#options.now();
    for (const [request, { until }] of this.#cache) if (now >= until) this.#cache.delete(request);
  }
}

/** A path that already is the API's ("secret/data/app") is left as it is: many people copy it from there. */
function kv2Path(mount: string, path: string): string {
  const rest = path.slice(mount.length);
  return rest.startsWith("data/") ? path : `${mount}data/${rest}`;
}

function nestedFields(data: Record<string, unknown>, apiPath: string): Record<string, unknown> {
  if (isRecord(data.data)) return data.data;
  throw new VaultError("missing", `the version asked for of ${apiPath} was deleted or never written`);
}
