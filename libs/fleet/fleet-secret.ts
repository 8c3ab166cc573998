import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { FleetAwayError, FleetConnection, type FleetLog, redisOptions } from "./connection.ts";
import { KeyFileError, type KeyRing, readKeyRing } from "./key-ring.ts";
import { RenewalJob } from "./renewal-job.ts";
import { type OpenedRecord, openRecord, SealedRecordError, sealRecord } from "./sealed-record.ts";
import type { FleetSettings } from "./settings.ts";

export interface FleetSecretOptions {
  settings: FleetSettings;
  log: FleetLog;
  /** Names the secret among those of the fleet and is bound to what is encrypted. Letters, digits and dashes. */
  purpose: string;
  /** Another host stored a new value. Also called now and then, and when Redis is back: look and compare. */
  onChanged: () => void;
  /** This host was chosen to see whether the value must be renewed. */
  onDue: () => Promise<void>;
  random?: () => number;
  /** Between two looks without news, milliseconds. */
  lookMs?: number;
}

/** Handed to the work under the lock; only its holder can store. */
export interface FleetLock {
  readonly id: string;
}

export type Exclusive<T> = { held: true; value: T } | { held: false; holder: string };

/** What `read` gives. */
export interface SharedRecord extends OpenedRecord {
  /** Until Redis drops it. */
  remainingMs: number;
}

export interface FleetState {
  state: "joined" | "away" | "wrong key";
  problem?: string;
  hostWithLock?: string;
}

const LOCK_MS = 15_000;
const LOOK_MS = 30_000;
/** Hosts that meet a Redis again do so spread over this time. */
const RETURN_SPREAD_MS = 2_000;
const MAX_LIFETIME_MS = 30 * 24 * 3_600_000;

const STORE = `
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('set', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('publish', KEYS[3], ARGV[4])
return 1`;
const UNLOCK = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0";
const EXTEND = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0";

/**
 * One secret that all hosts of a fleet use and one of them at a time replaces: encrypted in Redis, guarded by a lock, its
 * changes told by pub/sub, its renewal a job that one host gets.
 *
 * INVARIANTS: nothing is stored without the lock; what another key encrypted is never overwritten while it lives; every method
 * settles within seconds whatever Redis does, with {@link FleetAwayError} where the fleet is of no use right now.
 */
export class FleetSecret {
  readonly #options: FleetSecretOptions;
  readonly #connection: FleetConnection;
  readonly #subscriber: Redis;
  readonly #job: RenewalJob;
  readonly #keys: { lock: string; value: string; changed: string };
  readonly #closing = new AbortController();
  #ring: KeyRing | undefined;
  #keyProblem: string | undefined;
  #holder: string | undefined;
  #everyMs: number | undefined;
  #change = Promise.withResolvers<void>();

  constructor(options: FleetSecretOptions) {
    this.#options = options;
    const { settings, log, purpose, onDue } = options;
    const prefix = `berth:{${settings.name}}:${purpose}`;
    this.#keys = { lock: `${prefix}:lock`, value: `${prefix}:value`, changed: `${prefix}:changed` };
    this.#connection = new FleetConnection(settings, log, () => void this.#lookSoon(RETURN_SPREAD_MS));
    this.#subscriber = new Redis({ ...redisOptions(settings), maxRetriesPerRequest: null });
    this.#subscriber.on("error", () => {});
    this.#subscriber.on("message", () => this.#announce());
    this.#subscriber.subscribe(this.#keys.changed).catch(() => {});
    this.#job = new RenewalJob({ settings, log, purpose, work: onDue });
    void this.#lookNowAndThen();
  }

  get state(): FleetState {
    const holder = this.#holder === undefined ? {} : { hostWithLock: this.#holder };
    if (this.#keyProblem !== undefined) return { state: "wrong key", problem: this.#keyProblem, ...holder };
    const { problem } = this.#connection;
    return problem === undefined ? { state: "joined", ...holder } : { state: "away", problem, ...holder };
  }

  /** The fleet's value, or undefined when there is none yet. Its remaining life is Redis's word: the hosts' clocks may differ. */
  async read(): Promise<SharedRecord | undefined> {
    const ring = await this.#keyRing();
    const { value } = this.#keys;
    const [text, remainingMs] = await this.#connection.run((redis) => Promise.all([redis.get(value), redis.pttl(value)]));
    if (text === null || remainingMs === -2) return undefined;
    try {
      const opened = openRecord(ring, this.#options.purpose, text);
      this.#keyProblem = undefined;
      return { ...opened, remainingMs: remainingMs < 0 ? MAX_LIFETIME_MS : remainingMs };
    } catch (error) {
      this.#ring = undefined;
      throw this.#keyFailure(error);
    }
  }

  /** Runs `work` if no other host is at it. The lock is kept alive while the work runs. */
  async tryExclusively<T>(work: (lock: FleetLock) => Promise<T>): Promise<Exclusive<T>> {
    await this.#keyRing();
    const { lock } = this.#keys;
    const id = `${this.#options.settings.host} ${randomUUID()}`;
    const taken = await this.#connection.run((redis) => redis.set(lock, id, "PX", LOCK_MS, "NX"));
    if (taken === null) {
      this.#holder = hostOf(await this.#connection.run((redis) => redis.get(lock)));
      return { held: false, holder: this.#holder ?? "another host" };
    }
    this.#holder = this.#options.settings.host;
    const done = new AbortController();
    const kept = this.#keepLock(id, done.signal);
    try {
      return { held: true, value: await work({ id }) };
    } finally {
      done.abort();
      await kept;
      await this.#connection.run((redis) => redis.eval(UNLOCK, 1, lock, id)).catch(() => {});
      this.#holder = undefined;
    }
  }

  /**
   * Makes `payload` the fleet's value until `expiresAt` and sets the renewal job's tick. False when the lock was lost meanwhile:
   * then another host's value stands.
   */
  async store(lock: FleetLock, payload: unknown, expiresAt: number | undefined, renewEveryMs: number): Promise<boolean> {
    const { settings, purpose } = this.#options;
    const now = Date.now();
    const record = sealRecord(await this.#keyRing(), purpose, settings.host, payload, now);
    const lifetime = Math.ceil(Math.min((expiresAt ?? Number.POSITIVE_INFINITY) - now, MAX_LIFETIME_MS));
    if (lifetime <= 0) return false;
    const keys = [this.#keys.lock, this.#keys.value, this.#keys.changed];
    const stored = await this.#connection.run((redis) => redis.eval(STORE, 3, ...keys, lock.id, record, lifetime, settings.host));
    this.#everyMs = Math.round(renewEveryMs);
    await this.#job.ensure(this.#everyMs);
    return stored === 1;
  }

  /** Makes sure of the renewal job's tick; another host may have stored the value. */
  async ensureJob(renewEveryMs: number): Promise<void> {
    this.#everyMs = Math.round(renewEveryMs);
    await this.#job.ensure(this.#everyMs);
  }

  /** Settles at the next change that another host tells of, at the latest after `ms`. */
  async nextChange(ms: number): Promise<void> {
    const late = sleep(ms, undefined, { signal: this.#closing.signal }).catch(() => {});
    await Promise.race([this.#change.promise, late]);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#job.close();
    this.#subscriber.disconnect();
    this.#connection.close();
  }

  async #keyRing(): Promise<KeyRing> {
    if (this.#ring !== undefined) return this.#ring;
    const { keyFile } = this.#options.settings;
    if (keyFile === undefined)
      throw this.#keyFailure(new KeyFileError("REDIS_URL is set without EXECUTOR_FLEET_KEY_FILE or the credential berth-fleet-key"));
    try {
      this.#ring = await readKeyRing(keyFile);
      return this.#ring;
    } catch (error) {
      throw this.#keyFailure(error);
    }
  }

  #keyFailure(error: unknown): FleetAwayError {
    const problem = (error as Error).message;
    if (!(error instanceof KeyFileError) && !(error instanceof SealedRecordError)) throw error;
    if (this.#keyProblem !== problem) this.#options.log.warn({ problem }, "the fleet's secret is of no use to this host; it goes on alone");
    this.#keyProblem = problem;
    return new FleetAwayError(problem, { cause: error });
  }

  async #keepLock(id: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(LOCK_MS / 3, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      await this.#connection.run((redis) => redis.eval(EXTEND, 1, this.#keys.lock, id, LOCK_MS)).catch(() => {});
    }
  }

  #announce(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers<void>();
    this.#options.onChanged();
  }

  async #lookSoon(withinMs: number): Promise<void> {
    const { random = Math.random } = this.#options;
    await sleep(random() * withinMs, undefined, { signal: this.#closing.signal }).catch(() => {});
    if (!this.#closing.signal.aborted) this.#announce();
  }

  /** Catches what pub/sub cannot tell: a wiped Redis, a lost message, a replaced key file. */
  async #lookNowAndThen(): Promise<void> {
    const { lookMs = LOOK_MS, random = Math.random } = this.#options;
    while (!this.#closing.signal.aborted) {
      await sleep(lookMs * (0.75 + random() / 2), undefined, { signal: this.#closing.signal }).catch(() => {});
      if (this.#closing.signal.aborted) return;
      this.#ring = undefined;
      if (this.#everyMs !== undefined && this.#connection.problem === undefined) await this.#job.ensure(this.#everyMs);
      this.#announce();
    }
  }
}

function hostOf(lock: string | null): string | undefined {
  return lock?.split(" ", 1)[0];
}
