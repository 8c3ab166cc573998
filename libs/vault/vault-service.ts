import { formatDuration } from "@berth/duration";
import { TaskFailure } from "@berth/mesos";
import { Availability } from "./availability.ts";
import { zeroCounters } from "./counters.ts";
import { isOutage, VaultError, wordsOf } from "./errors.ts";
import { FleetTokens } from "./fleet-tokens.ts";
import { Leases, leaseRecord } from "./leases.ts";
import { LocalTokens } from "./local-tokens.ts";
import { encodeSegment, isReference, parseReference, type SecretReference, VaultReferenceError } from "./reference.ts";
import { type SecretAnswer, SecretReader } from "./secret-reader.ts";
import { pickValue, SecretValueError } from "./secret-value.ts";
import { Semaphore } from "./semaphore.ts";
import type { VaultSettings } from "./settings.ts";
import { vaultSeconds } from "./shapes.ts";
import type { HeldToken } from "./token.ts";
import { TokenKeeper } from "./token-keeper.ts";
import type {
  AwsCredentials,
  AwsRequest,
  LeaseLost,
  LeaseRecord,
  Resolution,
  ResolvedSecret,
  ResolveRequest,
  VaultCounters,
  VaultLog,
  VaultStatus,
  Waiting,
} from "./types.ts";
import { type VaultAnswer, VaultApi } from "./vault-api.ts";

export interface VaultServiceOptions {
  settings: VaultSettings;
  log: VaultLog;
  /** Every token and password, as soon as it is known. */
  onSensitive: (value: string, source: string) => void;
  onWaiting: (waiting: Waiting) => void;
  onLeaseLost: (lost: LeaseLost) => void;
  onLeases: (taskKey: string, leases: LeaseRecord[]) => void;
  now?: () => number;
  random?: () => number;
  /** Between two looks at the fleet without news. */
  fleetLookMs?: number;
}

const AWS_MOUNT = "aws";

/** What one variable of an environment refers to. */
interface Wanted {
  name: string;
  reference: SecretReference;
}

/**
 * Everything that Berth does with Vault, in one object that works in the Vault thread as well as in a test or `berth run`.
 *
 * INVARIANTS: a call settles by its signal, by `waitMs` or by Vault's answer; what a failed call had leased is revoked; no
 * value is in an error or a log line.
 */
export class VaultService {
  readonly #options: VaultServiceOptions;
  readonly #now: () => number;
  readonly #closing = new AbortController();
  readonly #counters: VaultCounters = zeroCounters();
  readonly #api: VaultApi;
  readonly #availability: Availability;
  readonly #fleet: FleetTokens | undefined;
  readonly #keeper: TokenKeeper;
  readonly #reader: SecretReader;
  readonly #leases: Leases;

  constructor(options: VaultServiceOptions) {
    this.#options = options;
    const { settings, log, onSensitive, now = Date.now, random = Math.random } = options;
    const { signal } = this.#closing;
    const counters = this.#counters;
    this.#now = now;
    const api = new VaultApi(settings, counters);
    this.#api = api;
    this.#availability = new Availability({ probe: (ending) => api.health(ending), log, signal, random });
    this.#fleet = this.#joinFleet(random);
    const local = new LocalTokens({
      ...{ settings, api, log, counters, onSensitive, signal, now, random },
      untilOpen: (ending) => this.#availability.untilOpen(ending),
    });
    this.#keeper = new TokenKeeper({
      ...{ settings, api, local, log, counters, onSensitive, signal, now, random },
      ...(this.#fleet === undefined ? {} : { fleet: this.#fleet }),
      onTokenLost: (token) => this.#tokenLost(token),
      bearsLeases: (token) => this.#leases.hangOn(token),
      onTokenAged: (token) => this.#leases.tokenAged(token),
    });
    this.#reader = new SecretReader({
      read: (path, mayLease) => this.#keeper.use((token) => this.#readWith(token, path, mayLease), signal),
      cacheMs: settings.secretCacheMs,
      limit: new Semaphore(settings.concurrency),
      ...{ counters, now },
    });
    this.#leases = new Leases({
      write: (path, body) => this.#keeper.use((token) => api.write(path, body, token.value, signal), signal),
      onLost: options.onLeaseLost,
      onChanged: options.onLeases,
      ...{ log, counters, signal, now, random },
    });
  }

  async resolveEnvironment({ taskKey, environment }: ResolveRequest, signal: AbortSignal): Promise<Resolution> {
    const wanted = wantedFrom(environment);
    const answers = await this.#within(taskKey, signal, (ending, failures) => this.#readAll(taskKey, wanted, ending, failures));
    const resolved = { ...environment };
    const secrets: ResolvedSecret[] = [];
    const leases: LeaseRecord[] = [];
    try {
      for (const { name, reference } of wanted) {
        const answer = answers.get(groupOf(reference)) as SecretAnswer;
        const value = pick(answer, name, reference);
        resolved[name] = value;
        secrets.push({ name, value, source: reference.written });
      }
    } catch (error) {
      this.#abandon([...answers.values()]);
      throw error;
    }
    for (const { apiPath, lease } of answers.values()) {
      if (lease === undefined) continue;
      leases.push(this.#hold(taskKey, "secret", apiPath, lease, 0));
    }
    return { environment: resolved, secrets, leases };
  }

  async awsCredentials({ taskKey, role, ttlMs }: AwsRequest, signal: AbortSignal): Promise<AwsCredentials> {
    const path = `${AWS_MOUNT}/creds/${encodeSegment(role)}`;
    const what = `AWS credentials of the role ${role} (${AWS_MOUNT}/creds/${role})`;
    const { answer, token } = await this.#within(taskKey, signal, (ending) =>
      this.#attempt(taskKey, ending, what, () => this.#issueAws(path, ttlMs, ending)),
    );
    const { access_key: accessKey, secret_key: secretKey, security_token: sessionToken } = answer.data;
    const lease = { id: answer.leaseId, durationMs: answer.leaseDurationMs, renewable: answer.renewable, token };
    if (typeof accessKey !== "string" || typeof secretKey !== "string" || lease.id === "") {
      if (lease.id !== "") void this.#leases.revoke(lease.id, this.#now() + lease.durationMs);
      throw new TaskFailure(`Vault's answer for the ${what} holds no credentials`);
    }
    const record = this.#hold(taskKey, "aws", `${AWS_MOUNT}/creds/${role}`, lease, ttlMs);
    const variables: Record<string, string> = { AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey };
    if (typeof sessionToken === "string" && sessionToken !== "") variables.AWS_SESSION_TOKEN = sessionToken;
    const secrets = Object.entries(variables).map(([name, value]) => ({ name, value, source: `vault://${AWS_MOUNT}/creds/${role}` }));
    return { environment: variables, secrets, leases: [record] };
  }

  adopt(taskKey: string, leases: readonly LeaseRecord[]): void {
    for (const lease of leases) this.#leases.add(taskKey, lease, undefined);
  }

  release(taskKey: string): Promise<void> {
    return this.#leases.release(taskKey);
  }

  revokeLease(leaseId: string): Promise<void> {
    return this.#leases.revoke(leaseId, this.#now() + this.#options.settings.waitMs);
  }

  status(): VaultStatus {
    const { address, namespace, tokenFile } = this.#options.settings;
    const token = this.#keeper.status();
    const { problem } = this.#availability;
    return {
      address,
      ...(namespace === undefined ? {} : { namespace }),
      state: this.#availability.state,
      ...(problem === undefined ? {} : { problem }),
      ...(token === undefined ? {} : { token }),
      ...(tokenFile === undefined ? {} : { tokenFile }),
      fleet: this.#fleet?.state ?? { state: "off" },
      leases: this.#leases.size,
      cachedSecrets: this.#reader.cached,
      counters: { ...this.#counters },
    };
  }

  /** Ends all timers and connections. Leases and tokens live on: the next supervisor takes them up. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#fleet?.close();
    this.#api.close();
  }

  #joinFleet(random: () => number): FleetTokens | undefined {
    const { settings, log, fleetLookMs } = this.#options;
    if (settings.fleet === undefined || settings.token !== undefined) return undefined;
    return new FleetTokens({
      settings: settings.fleet,
      vault: `${settings.address} ${settings.namespace ?? ""}`,
      log,
      onChanged: () => void this.#keeper.compareWithFleet().catch((error: unknown) => this.#fleetTrouble(error)),
      onDue: () => this.#keeper.renewForFleet().catch((error: unknown) => this.#fleetTrouble(error)),
      ...(fleetLookMs === undefined ? {} : { lookMs: fleetLookMs }),
      ...{ random, now: this.#now },
    });
  }

  #fleetTrouble(error: unknown): void {
    if (!this.#closing.signal.aborted)
      this.#options.log.warn({ problem: wordsOf(error) }, "the fleet's Vault token could not be looked after");
  }

  #tokenLost(token: HeldToken): void {
    this.#reader.forget();
    this.#leases.tokenLost(token);
  }

  /** One answer per distinct path and version; all failures in one, nothing left leased. */
  async #readAll(taskKey: string, wanted: Wanted[], signal: AbortSignal, failures: AbortController): Promise<Map<string, SecretAnswer>> {
    const groups = new Map<string, Wanted[]>();
    for (const one of wanted) groups.set(groupOf(one.reference), [...(groups.get(groupOf(one.reference)) ?? []), one]);
    const results = await Promise.allSettled(
      [...groups].map(async ([group, members]) => {
        const { name, reference } = members[0] as Wanted;
        try {
          const answer = await this.#attempt(taskKey, signal, subject(name, reference), async () => {
            const read = await this.#reader.read(reference.path, reference.version);
            if (signal.aborted) this.#abandon([read]);
            return read;
          });
          return [group, answer] as const;
        } catch (error) {
          // A reference that cannot work fails the task whatever the others would say; those that wait for Vault need not go on.
          if (TaskFailure.is(error) && !error.recoverable) failures.abort(error);
          throw error;
        }
      }),
    );
    const answers = new Map<string, SecretAnswer>();
    for (const result of results) if (result.status === "fulfilled") answers.set(...result.value);
    const errors = results.flatMap((result) => (result.status === "rejected" ? [result.reason as unknown] : []));
    if (errors.length === 0) return answers;
    this.#abandon([...answers.values()]);
    throw errors.find((error) => TaskFailure.is(error) && !error.recoverable) ?? errors[0];
  }

  /** Runs `call` with the gate's patience; a VaultError becomes a TaskFailure about `what`. */
  async #attempt<T>(taskKey: string, signal: AbortSignal, what: string, call: () => Promise<T>): Promise<T> {
    const { settings, onWaiting } = this.#options;
    const until = this.#now() + settings.waitMs;
    try {
      return await this.#availability.perform(call, {
        signal,
        maxRetries: settings.maxRetries,
        onWaiting: (reason) => onWaiting({ taskKey, reason, until }),
      });
    } catch (error) {
      if (!(error instanceof VaultError)) throw error;
      throw this.#failure(what, error, signal.aborted);
    }
  }

  /** Bounds a whole call by the launch's patience, by the service's end and by its own first hopeless failure. */
  async #within<T>(taskKey: string, signal: AbortSignal, call: (signal: AbortSignal, failures: AbortController) => Promise<T>): Promise<T> {
    const { waitMs } = this.#options.settings;
    const patience = new AbortController();
    const failures = new AbortController();
    const gaveUp = new VaultError("timeout", `Vault at ${this.#options.settings.address} has not answered`);
    const timer = setTimeout(() => patience.abort(gaveUp), Math.min(waitMs, 2 ** 31 - 1));
    try {
      return await call(AbortSignal.any([signal, this.#closing.signal, patience.signal, failures.signal]), failures);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof VaultError) throw this.#failure(`secrets of ${taskKey}`, error, true);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #issueAws(path: string, ttlMs: number, signal: AbortSignal): Promise<{ answer: VaultAnswer; token: HeldToken }> {
    // The lease ends with its token, so the token must be able to outlive it.
    if (ttlMs > 0) await this.#keeper.withLifetime(ttlMs, signal);
    const query = ttlMs > 0 ? `?ttl=${vaultSeconds(ttlMs)}` : "";
    const issued = await this.#keeper.use((token) => this.#readWith(token, path + query, true), signal);
    if (signal.aborted && issued.answer.leaseId !== "")
      void this.#leases.revoke(issued.answer.leaseId, this.#now() + issued.answer.leaseDurationMs);
    this.#counters.secretReads += 1;
    return issued;
  }

  async #readWith(token: HeldToken, path: string, mayLease: boolean): Promise<{ answer: VaultAnswer; token: HeldToken }> {
    // Before the answer is there: a token is revoked as surplus only if nothing can hang on it.
    if (mayLease) token.hasLeases = true;
    return { answer: await this.#api.read(path, token.value, this.#closing.signal), token };
  }

  #hold(taskKey: string, kind: LeaseRecord["kind"], path: string, lease: NonNullable<SecretAnswer["lease"]>, ttlMs: number): LeaseRecord {
    const record = leaseRecord(kind, path, lease, ttlMs, this.#now());
    this.#counters.leasesIssued += 1;
    this.#leases.add(taskKey, record, lease.token);
    this.#options.log.info({ taskKey, leaseId: record.leaseId, path, renewable: record.renewable }, "took a lease in Vault");
    return record;
  }

  #abandon(answers: SecretAnswer[]): void {
    for (const { lease } of answers) if (lease !== undefined) void this.#leases.revoke(lease.id, this.#now() + lease.durationMs);
  }

  #failure(what: string, error: VaultError, gaveUp: boolean): TaskFailure {
    const { waitMs } = this.#options.settings;
    const patience = gaveUp && isOutage(error) ? `; gave up after ${formatDuration(waitMs)}` : "";
    return new TaskFailure(`cannot get ${what}: ${this.#cause(error)}${patience}`, {
      recoverable: isOutage(error),
    });
  }

  #cause(error: VaultError): string {
    switch (error.kind) {
      case "missing":
        return error.message === "nothing is there" ? "Vault has nothing at this path" : error.message;
      case "denied":
      case "invalidToken":
        return /^permission denied/.test(error.message) ? `Vault denies it (${this.#policies()})` : error.message;
      case "rejected":
        return `Vault refuses it: ${error.message}`;
      default:
        return error.message;
    }
  }

  #policies(): string {
    const policies = this.#keeper.current?.policies ?? [];
    return policies.length === 0 ? "permission denied" : `permission denied with the policies ${policies.join(", ")}`;
  }
}

function wantedFrom(environment: Readonly<Record<string, string>>): Wanted[] {
  const wanted: Wanted[] = [];
  for (const [name, value] of Object.entries(environment)) {
    if (!isReference(value)) continue;
    try {
      wanted.push({ name, reference: parseReference(value) });
    } catch (error) {
      if (error instanceof VaultReferenceError)
        throw new TaskFailure(`the variable ${name} holds a vault:// reference that cannot be read: ${error.message}`);
      throw error;
    }
  }
  return wanted;
}

function groupOf({ path, version }: SecretReference): string {
  return `${path}@${version ?? ""}`;
}

function subject(name: string, { path, version }: SecretReference): string {
  return `the variable ${name} from vault://${path}${version === undefined ? "" : `@${version}`}`;
}

function pick(answer: SecretAnswer, name: string, reference: SecretReference): string {
  try {
    return pickValue(answer.fields, reference.key);
  } catch (error) {
    if (error instanceof SecretValueError) throw new TaskFailure(`cannot get ${subject(name, reference)}: ${error.message}`);
    throw error;
  }
}
