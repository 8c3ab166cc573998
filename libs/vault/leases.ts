import { type BackoffPolicy, backoffDelay, pause } from "@berth/retry";
import { hasKind, isOutage, wordsOf } from "./errors.ts";
import { lifetimeWords, secondsFrom, vaultSeconds } from "./shapes.ts";
import type { HeldToken } from "./token.ts";
import type { LeaseLost, LeaseRecord, VaultCounters, VaultLog } from "./types.ts";
import type { VaultAnswer } from "./vault-api.ts";

export interface LeasesOptions {
  /** One authenticated POST. */
  write: (path: string, body: object) => Promise<VaultAnswer>;
  log: VaultLog;
  counters: VaultCounters;
  onLost: (lost: LeaseLost) => void;
  /** The ends of a task's leases have moved. */
  onChanged: (taskKey: string, leases: LeaseRecord[]) => void;
  signal: AbortSignal;
  now: () => number;
  random: () => number;
}

interface Lease {
  taskKey: string;
  record: LeaseRecord;
  /** What Vault gave first: the measure for margins. */
  durationMs: number;
  /** The token that it hangs on; unknown for one that an earlier supervisor took. */
  token: HeldToken | undefined;
  timer: NodeJS.Timeout | undefined;
  lost: boolean;
  failures: number;
}

/** The task is told this long before its credentials end, or a tenth of their lifetime if that is shorter. */
const MARGIN_MS = 360_000;
const MAX_TIMER_MS = 2 ** 31 - 1;
/** `release` waits this long for Vault; then the revocation goes on without its caller. */
const RELEASE_MS = 10_000;
const RETRIES: BackoffPolicy = { attempts: Number.POSITIVE_INFINITY, firstDelayMs: 1_000, maxDelayMs: 60_000 };

/**
 * The leases of the running tasks: renewed around half of their lifetime, reported in time when they cannot be kept, revoked when
 * the task ends.
 *
 * INVARIANTS: a lease is reported lost at most once, and before it ends; a renewal that fails because Vault is away costs
 * nothing while there is time; what was handed to `release` is revoked, has ended by itself, or is still being tried.
 */
export class Leases {
  readonly #options: LeasesOptions;
  readonly #leases = new Map<string, Lease>();

  constructor(options: LeasesOptions) {
    this.#options = options;
    options.signal.addEventListener("abort", () => this.#stopTimers(), { once: true });
  }

  get size(): number {
    return this.#leases.size;
  }

  add(taskKey: string, record: LeaseRecord, token: HeldToken | undefined): void {
    const { now } = this.#options;
    clearTimeout(this.#leases.get(record.leaseId)?.timer);
    const durationMs = Math.max(record.incrementMs, record.expiresAt - now(), 1);
    const lease: Lease = { taskKey, record, durationMs, token, timer: undefined, lost: false, failures: 0 };
    if (token !== undefined) token.hasLeases = true;
    this.#leases.set(record.leaseId, lease);
    this.#schedule(lease);
  }

  /** Whether any lease hangs on `token`. */
  hangOn(token: HeldToken): boolean {
    return [...this.#leases.values()].some((lease) => lease.token === token);
  }

  of(taskKey: string): LeaseRecord[] {
    return [...this.#leases.values()].filter((lease) => lease.taskKey === taskKey).map(({ record }) => record);
  }

  /** Revokes all leases of a task. Returns when they are revoked, at the latest after ten seconds; the rest goes on in the background. */
  async release(taskKey: string): Promise<void> {
    const own = [...this.#leases.values()].filter((lease) => lease.taskKey === taskKey);
    for (const lease of own) {
      clearTimeout(lease.timer);
      this.#leases.delete(lease.record.leaseId);
    }
    const revoked = Promise.all(own.map(({ record }) => this.revoke(record.leaseId, record.expiresAt)));
    const patience = new AbortController();
    const late = pause(RELEASE_MS, patience.signal).catch(() => {});
    await Promise.race([revoked, late]);
    patience.abort();
  }

  /** Tries until it is done or `until`, when the lease has ended by itself. */
  async revoke(leaseId: string, until: number): Promise<void> {
    const { write, counters, log, now, random, signal } = this.#options;
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        await write("sys/leases/revoke", { lease_id: leaseId });
        counters.leasesRevoked += 1;
        log.info({ leaseId }, "revoked a lease in Vault");
        return;
      } catch (error) {
        // 400 is Vault's way to say that it does not know the lease any more.
        if (hasKind(error, "rejected") || hasKind(error, "missing")) return;
        const delay = backoffDelay(RETRIES, attempt, random);
        if (!isOutage(error) || now() + delay > until) {
          log.warn({ leaseId, problem: wordsOf(error) }, "a lease could not be revoked in Vault; it ends by itself");
          return;
        }
        await pause(delay, signal).catch(() => {});
      }
    }
  }

  /** The token will not be renewed any more: leases that would outlive it end with it. */
  tokenAged(token: HeldToken): void {
    for (const lease of this.#leases.values()) if (lease.token === token) this.#schedule(lease);
  }

  /** The token is gone, and Vault has revoked what hung on it. Adopted leases find out by their next renewal, which is now. */
  tokenLost(token: HeldToken): void {
    for (const lease of this.#leases.values()) {
      if (lease.token === token) this.#lose(lease, "the Vault token that they hung on was revoked or has ended");
      else if (lease.token === undefined && lease.record.renewable) this.#wakeIn(lease, 1_000 * this.#options.random());
    }
  }

  #stopTimers(): void {
    for (const lease of this.#leases.values()) clearTimeout(lease.timer);
  }

  /** The credentials work until here: a token that cannot be renewed takes its leases along. */
  #end({ record, token }: Lease): number {
    const tokenEnd =
      token?.atItsEnd || token?.renewable === false ? (token.expiresAt ?? Number.POSITIVE_INFINITY) : Number.POSITIVE_INFINITY;
    return Math.min(record.expiresAt, tokenEnd);
  }

  #schedule(lease: Lease): void {
    const { now, random } = this.#options;
    if (lease.lost) return;
    const left = this.#end(lease) - now();
    const toMargin = left - Math.min(MARGIN_MS, lease.durationMs / 10);
    if (!lease.record.renewable) return this.#wakeIn(lease, toMargin);
    const share = (0.4 + 0.2 * random()) * Math.max(0, lease.record.expiresAt - now());
    this.#wakeIn(lease, Math.min(share, toMargin));
  }

  #wakeIn(lease: Lease, ms: number): void {
    if (this.#options.signal.aborted) return;
    clearTimeout(lease.timer);
    lease.timer = setTimeout(() => void this.#wake(lease), Math.min(Math.max(ms, 0), MAX_TIMER_MS));
    lease.timer.unref();
  }

  async #wake(lease: Lease): Promise<void> {
    const { now } = this.#options;
    if (!this.#isKept(lease)) return;
    const margin = Math.min(MARGIN_MS, lease.durationMs / 10);
    const dueToEnd = this.#end(lease) - now() <= margin;
    if (lease.record.renewable && !(dueToEnd && this.#end(lease) < lease.record.expiresAt)) await this.#renew(lease);
    if (!this.#isKept(lease) || lease.lost) return;
    if (this.#end(lease) - now() <= margin) return this.#lose(lease, "their lease in Vault cannot be renewed any further");
    this.#schedule(lease);
  }

  async #renew(lease: Lease): Promise<void> {
    const { write, log, counters, now, onChanged } = this.#options;
    const { record } = lease;
    try {
      const answer = await write("sys/leases/renew", {
        lease_id: record.leaseId,
        increment: Number.parseInt(vaultSeconds(record.incrementMs), 10),
      });
      counters.leaseRenewals += 1;
      lease.failures = 0;
      const before = record.expiresAt;
      lease.record = { ...record, expiresAt: now() + answer.leaseDurationMs };
      // At the maximum lifetime a renewal gives only what was left anyway.
      if (!answer.renewable || lease.record.expiresAt < before + 500) lease.record.renewable = false;
      log.debug(
        { taskKey: lease.taskKey, leaseId: record.leaseId, lifetime: lifetimeWords(answer.leaseDurationMs), last: !lease.record.renewable },
        "renewed a lease",
      );
      if (this.#isKept(lease)) onChanged(lease.taskKey, this.of(lease.taskKey));
    } catch (error) {
      this.#afterFailure(lease, error);
    }
  }

  #afterFailure(lease: Lease, error: unknown): void {
    const { log, now, random } = this.#options;
    if (!this.#isKept(lease)) return;
    const fields = { taskKey: lease.taskKey, leaseId: lease.record.leaseId, problem: wordsOf(error) };
    // Other refusals ("past the max TTL, cannot renew") leave the lease alive until its end.
    if (hasKind(error, "missing") || (hasKind(error, "rejected") && /lease not found|lease expired|invalid lease/i.test(error.message))) {
      log.warn(fields, "Vault does not know a lease any more");
      this.#lose(lease, "Vault does not know their lease any more");
      return;
    }
    if (!isOutage(error)) {
      log.warn(fields, "a lease may not be renewed; it ends by itself");
      lease.record = { ...lease.record, renewable: false };
      return;
    }
    lease.failures += 1;
    log.warn(fields, "a lease could not be renewed; trying again");
    const margin = Math.min(MARGIN_MS, lease.durationMs / 10);
    const left = this.#end(lease) - now() - margin;
    if (left > 0) this.#wakeIn(lease, Math.min(left, backoffDelay(RETRIES, lease.failures, random)));
  }

  #lose(lease: Lease, why: string): void {
    const { log, counters, onLost } = this.#options;
    if (lease.lost) return;
    lease.lost = true;
    clearTimeout(lease.timer);
    counters.leasesLost += 1;
    const what = lease.record.kind === "aws" ? "the AWS credentials" : `the credentials of ${lease.record.path}`;
    const reason = `${what} end: ${why}`;
    log.warn({ taskKey: lease.taskKey, leaseId: lease.record.leaseId, reason }, "a task's credentials end");
    onLost({ taskKey: lease.taskKey, lease: lease.record, reason });
  }

  #isKept(lease: Lease): boolean {
    return this.#leases.get(lease.record.leaseId) === lease;
  }
}

/** The record of a fresh lease. */
export function leaseRecord(
  kind: LeaseRecord["kind"],
  path: string,
  lease: { id: string; durationMs: number; renewable: boolean },
  incrementMs: number,
  now: number,
): LeaseRecord {
  return {
    leaseId: lease.id,
    kind,
    path,
    expiresAt: now + lease.durationMs,
    renewable: lease.renewable,
    incrementMs: incrementMs || lease.durationMs,
  };
}

/** A record out of a checkpoint or a label, or undefined where it is none. */
export function parseLeaseRecord(value: unknown): LeaseRecord | undefined {
  const record = value as Partial<Record<keyof LeaseRecord, unknown>> | null | undefined;
  if (typeof record?.leaseId !== "string" || record.leaseId === "") return undefined;
  return {
    leaseId: record.leaseId,
    kind: record.kind === "aws" ? "aws" : "secret",
    path: typeof record.path === "string" ? record.path : "",
    expiresAt: typeof record.expiresAt === "number" ? record.expiresAt : 0,
    renewable: record.renewable === true,
    incrementMs: secondsFrom(typeof record.incrementMs === "number" ? record.incrementMs / 1000 : 0),
  };
}
