import { withSignal } from "./availability.ts";
import { hasKind, isOutage, VaultError, wordsOf } from "./errors.ts";
import type { FleetTokens } from "./fleet-tokens.ts";
import type { LocalTokens } from "./local-tokens.ts";
import type { VaultSettings } from "./settings.ts";
import { lifetimeWords, vaultSeconds } from "./shapes.ts";
import type { HeldToken } from "./token.ts";
import type { VaultCounters, VaultLog, VaultStatus } from "./types.ts";
import type { VaultApi } from "./vault-api.ts";

export interface TokenKeeperOptions {
  settings: VaultSettings;
  api: VaultApi;
  local: LocalTokens;
  /** Absent without REDIS_URL. Made by the keeper's owner, whose callbacks lead to `compareWithFleet` and `renewForFleet`. */
  fleet?: FleetTokens;
  log: VaultLog;
  counters: VaultCounters;
  onSensitive: (value: string, source: string) => void;
  /** A token is gone, and with it what was issued under it. */
  onTokenLost: (token: HeldToken) => void;
  /** Whether leases of running tasks hang on a token. */
  bearsLeases: (token: HeldToken) => boolean;
  /** A token will not be renewed any more: what hangs on it ends when it does. */
  onTokenAged: (token: HeldToken) => void;
  signal: AbortSignal;
  now: () => number;
  random: () => number;
}

/** Asked for beyond VAULT_TTL, so that the file's age limit comes first. */
const EXTRA_TTL_MS = 600_000;
const RETRY_LEAST_MS = 1_000;
const RETRY_MOST_MS = 60_000;
const MAX_TIMER_MS = 2 ** 31 - 1;
/** A denied read asks once in this time whether it is the token's fault. */
const CHECK_MEMORY_MS = 5_000;

/**
 * The one token of this host: gets it when it is first needed, renews it around half of its lifetime, replaces it before it
 * ends, gets a new one when it was revoked.
 *
 * INVARIANTS: at most one acquisition is under way; a token that works is never given up for another one, except for the
 * fleet's; a token that another host or process may use, or that leases hang on, is never revoked.
 */
export class TokenKeeper {
  readonly #options: TokenKeeperOptions;
  #current: HeldToken | undefined;
  #acquiring: Promise<HeldToken> | undefined;
  #maintaining: Promise<void> | undefined;
  #lengthening: Promise<HeldToken> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #renewsAt: number | undefined;
  /** Tokens that served at least one request. */
  readonly #proven = new WeakSet<HeldToken>();
  readonly #checks = new WeakMap<HeldToken, { at: number; dead: Promise<boolean> }>();
  #lookupForbidden = false;
  /** The longest lifetime that a fresh token could be given. */
  #longestMs = Number.POSITIVE_INFINITY;

  constructor(options: TokenKeeperOptions) {
    this.#options = options;
    options.signal.addEventListener("abort", () => clearTimeout(this.#timer), { once: true });
  }

  get current(): HeldToken | undefined {
    return this.#current;
  }

  /** Makes one request with the token; with a new one where the first turns out to be dead. */
  async use<T>(call: (token: HeldToken) => Promise<T>, signal: AbortSignal): Promise<T> {
    for (let round = 1; ; round++) {
      const token = await this.get(signal);
      try {
        const result = await call(token);
        this.#proven.add(token);
        return result;
      } catch (error) {
        if (hasKind(error, "invalidToken")) this.#reject(token);
        else if (!hasKind(error, "denied") || (token === this.#current && !(await this.#isDead(token)))) throw error;
        else this.#reject(token);
        if (round > 1) throw new VaultError("denied", wordsOf(error));
      }
    }
  }

  /** A token that has not ended. */
  async get(signal: AbortSignal): Promise<HeldToken> {
    const token = this.#current;
    if (token !== undefined && !this.#ended(token)) return token;
    if (token !== undefined) this.#reject(token);
    return withSignal(this.#acquireOnce(), signal);
  }

  /**
   * A token that lives for `ms` at least where one can be had, for a lease that ends with it: renewed for that long, else
   * replaced by a new one, unless a new one is known to live no longer.
   */
  async withLifetime(ms: number, signal: AbortSignal): Promise<HeldToken> {
    for (;;) {
      const token = await this.get(signal);
      if (this.#outlives(token, ms)) return token;
      if (this.#lengthening === undefined) break;
      // Whoever is at it may need less than we do: look again afterwards.
      await withSignal(this.#lengthening, signal).catch(() => signal.throwIfAborted());
    }
    const longer = this.#lengthen(ms).finally(() => {
      this.#lengthening = undefined;
    });
    this.#lengthening = longer;
    return withSignal(longer, signal);
  }

  async #lengthen(ms: number): Promise<HeldToken> {
    const { signal } = this.#options;
    let token = await this.get(signal);
    if (this.#outlives(token, ms)) return token;
    if (token.renewable && !token.atItsEnd) await this.#renew(token, ms);
    if (this.#outlives(token, ms) || !this.#options.local.canLogIn || token.source === "VAULT_TOKEN" || ms > this.#longestMs) return token;
    this.#options.log.info(
      { accessor: token.accessor, needed: lifetimeWords(ms) },
      "the Vault token ends before the lease would; getting a new one",
    );
    this.#setAside(token);
    this.#keepForLeases(token);
    token = await this.get(signal);
    if (token.renewable && !this.#outlives(token, ms)) await this.#renew(token, ms);
    if (!this.#outlives(token, ms)) this.#longestMs = Math.min(this.#longestMs, this.#remaining(token));
    return token;
  }

  /** Another host may have a new token, or Redis may have lost the fleet's: converge on one. */
  async compareWithFleet(): Promise<void> {
    const { fleet, local, log } = this.#options;
    const current = this.#current;
    if (fleet === undefined || current === undefined || current.source === "VAULT_TOKEN" || this.#acquiring !== undefined) return;
    const shared = await fleet.read((value) => local.isDead(value));
    if (shared === undefined || this.#current !== current) return;
    if (shared === "none") {
      const kept = await fleet.renew(
        current,
        (value) => local.isDead(value),
        async () => current,
      );
      if (kept === current && current.shared) log.info({ accessor: current.accessor }, "gave this host's Vault token to the fleet");
      if (kept !== undefined && kept !== "busy" && kept !== current) await this.#adopt(kept, current);
      return;
    }
    if (shared.value !== current.value) return this.#adopt(shared, current);
    current.shared = true;
    if (shared.expiresAt !== undefined && shared.expiresAt > (current.expiresAt ?? 0) + 1_000) {
      current.expiresAt = shared.expiresAt;
      current.ttlMs = shared.ttlMs;
      current.atItsEnd = shared.atItsEnd;
      await local.touch();
      this.#schedule(current);
    }
  }

  /** The fleet's job came to this host: renew or replace if it is time to. */
  async renewForFleet(): Promise<void> {
    const { fleet, local } = this.#options;
    await this.compareWithFleet();
    if (this.#current === undefined && this.#acquiring === undefined) {
      const shared = await fleet?.read((value) => local.isDead(value));
      if (shared !== undefined && shared !== "none" && this.#current === undefined) this.#hold(shared);
    }
    const token = this.#current;
    if (token === undefined || token.expiresAt === undefined || token.ttlMs === 0) return;
    const left = this.#remaining(token) / token.ttlMs;
    if (left < (this.#canBeRenewed(token) ? 0.55 : 0.25)) await this.#maintain();
  }

  status(): VaultStatus["token"] {
    const token = this.#current;
    if (token === undefined) return undefined;
    const { source, accessor, displayName, policies, renewable, expiresAt } = token;
    return {
      source,
      ...(accessor === undefined ? {} : { accessor }),
      ...(displayName === undefined ? {} : { displayName }),
      policies,
      renewable,
      ...(expiresAt === undefined ? {} : { expiresAt }),
      ...(this.#renewsAt === undefined ? {} : { renewsAt: this.#renewsAt }),
    };
  }

  #acquireOnce(): Promise<HeldToken> {
    this.#acquiring ??= this.#acquire().finally(() => {
      this.#acquiring = undefined;
    });
    this.#acquiring.catch(() => {});
    return this.#acquiring;
  }

  async #acquire(): Promise<HeldToken> {
    const { local, fleet } = this.#options;
    const own = await local.fromSettings();
    const token =
      own ??
      (await fleet?.obtain(
        (value) => local.isDead(value),
        () => local.obtain(),
      )) ??
      (await local.obtain());
    this.#hold(token);
    if (token.source === "fleet") await local.save(token);
    return token;
  }

  #hold(token: HeldToken): void {
    this.#options.onSensitive(token.value, "the Vault token");
    this.#current = token;
    this.#schedule(token);
  }

  async #adopt(shared: HeldToken, previous: HeldToken): Promise<void> {
    const { local, log, api } = this.#options;
    const known = await local.inspect("fleet", shared.value).catch(() => undefined);
    if (known === undefined || this.#current !== previous) return;
    log.info({ accessor: shared.accessor }, "took up the fleet's Vault token");
    this.#keepForLeases(previous);
    this.#hold({ ...shared, ...(known.displayName === undefined ? {} : { displayName: known.displayName }) });
    await local.save(shared);
    const surplus = (previous.source === "userpass" || previous.source === "approle") && !previous.shared && !previous.hasLeases;
    if (!surplus) return;
    local.bury(previous.value);
    await api.write("auth/token/revoke-self", {}, previous.value).catch((error: unknown) => {
      log.debug({ problem: wordsOf(error) }, "a surplus token could not be revoked; it ends by itself");
    });
  }

  /** Drops a token that Vault does not know any more. */
  #reject(token: HeldToken): void {
    const { local, log, onTokenLost } = this.#options;
    local.bury(token.value);
    if (token !== this.#current) return;
    if (!this.#proven.has(token) && token.source !== "file" && token.source !== "fleet" && !this.#ended(token)) local.noteFreshRejection();
    log.warn({ source: token.source, accessor: token.accessor }, "the Vault token was revoked or has ended; getting another one");
    this.#setAside(token);
    onTokenLost(token);
  }

  /** The token may go on living for what hangs on it, but nothing new is asked with it. */
  #setAside(token: HeldToken): void {
    if (token !== this.#current) return;
    this.#options.local.bury(token.value);
    clearTimeout(this.#timer);
    this.#renewsAt = undefined;
    this.#current = undefined;
  }

  /** A token that is not used any more lives on for the leases that hang on it, as long as there are any and it can be renewed. */
  #keepForLeases(token: HeldToken): void {
    const { bearsLeases, onTokenLost, signal, settings } = this.#options;
    if (!this.#canBeRenewed(token) || !bearsLeases(token)) return this.#age(token);
    const renewLater = (ms: number): void => {
      const timer = setTimeout(() => void renew(), Math.min(Math.max(ms, RETRY_LEAST_MS / 2), MAX_TIMER_MS));
      timer.unref();
      signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
    };
    const renew = async (): Promise<void> => {
      if (signal.aborted || !bearsLeases(token)) return;
      try {
        await this.#renew(token, settings.ttlMs);
        if (this.#canBeRenewed(token)) renewLater(this.#remaining(token) / 2);
      } catch (error) {
        if (hasKind(error, "invalidToken") || this.#ended(token)) onTokenLost(token);
        else renewLater(Math.min(RETRY_MOST_MS, this.#remaining(token) / 4));
      }
    };
    renewLater(this.#remaining(token) / 2);
  }

  #age(token: HeldToken): void {
    token.atItsEnd = true;
    this.#options.onTokenAged(token);
  }

  /** Whether a refusal is the token's fault. Older servers say "permission denied" in both cases. */
  #isDead(token: HeldToken): Promise<boolean> {
    const { now } = this.#options;
    const known = this.#checks.get(token);
    if (known !== undefined && now() - known.at < CHECK_MEMORY_MS) return known.dead;
    const dead = this.#lookUp(token);
    this.#checks.set(token, { at: now(), dead });
    return dead;
  }

  async #lookUp(token: HeldToken): Promise<boolean> {
    try {
      await this.#options.api.read("auth/token/lookup-self", token.value, this.#options.signal);
      return false;
    } catch (error) {
      if (hasKind(error, "invalidToken")) return true;
      if (!hasKind(error, "denied")) return false;
      if (!this.#proven.has(token)) this.#lookupForbidden = true;
      return !this.#lookupForbidden;
    }
  }

  #schedule(token: HeldToken): void {
    if (token !== this.#current) return;
    clearTimeout(this.#timer);
    this.#renewsAt = undefined;
    if (token.expiresAt === undefined) return;
    const { random, local, log } = this.#options;
    const spread = random();
    const remaining = Math.max(0, this.#remaining(token));
    if (!this.#canBeRenewed(token) && !local.canLogIn) {
      const fields = { source: token.source, accessor: token.accessor, endsIn: lifetimeWords(remaining) };
      log.warn(fields, "the Vault token cannot be renewed, and no login is set to replace it");
      return this.#age(token);
    }
    // The fleet's job is due first; this timer is what holds when there is no job.
    const share = this.#canBeRenewed(token)
      ? token.shared
        ? 0.6 + 0.1 * spread
        : 0.4 + 0.2 * spread
      : token.shared
        ? 0.82 + 0.08 * spread
        : 0.75 + 0.1 * spread;
    this.#wakeIn(remaining * share);
  }

  #wakeIn(ms: number): void {
    const { now, signal } = this.#options;
    if (signal.aborted) return;
    clearTimeout(this.#timer);
    const delay = Math.min(Math.max(ms, 50), MAX_TIMER_MS);
    this.#renewsAt = now() + delay;
    this.#timer = setTimeout(() => void this.#maintain(), delay);
    this.#timer.unref();
  }

  /** Renews or replaces the token, for the fleet where there is one. Never throws. */
  #maintain(): Promise<void> {
    this.#maintaining ??= this.#maintainOnce()
      .catch((error: unknown) => this.#afterFailure(error))
      .finally(() => {
        this.#maintaining = undefined;
      });
    return this.#maintaining;
  }

  async #maintainOnce(): Promise<void> {
    const { fleet, local } = this.#options;
    const token = this.#current;
    if (token === undefined) return;
    const renewed = (): Promise<HeldToken> => this.#renewedOrReplaced(token);
    const byFleet = token.shared || fleet !== undefined ? await fleet?.renew(token, (value) => local.isDead(value), renewed) : undefined;
    if (byFleet === "busy") return this.#wakeIn(Math.min(5_000, this.#remaining(token) / 4));
    const next = byFleet ?? (await renewed());
    if (this.#current !== token) return;
    if (next === token) return this.#schedule(token);
    if (next.value === token.value) return this.compareWithFleet();
    this.#keepForLeases(token);
    this.#hold(next);
    if (next.source === "fleet") await local.save(next);
  }

  async #renewedOrReplaced(token: HeldToken): Promise<HeldToken> {
    if (this.#canBeRenewed(token)) {
      await this.#renew(token, this.#options.settings.ttlMs);
      return token;
    }
    return this.#options.local.logIn();
  }

  async #renew(token: HeldToken, ms: number): Promise<void> {
    const { api, log, counters, local, now, signal } = this.#options;
    const before = this.#remaining(token);
    const judgeable = before < 0.9 * token.ttlMs;
    try {
      const { auth } = await api.write("auth/token/renew-self", { increment: vaultSeconds(ms + EXTRA_TTL_MS) }, token.value, signal);
      counters.tokenRenewals += 1;
      if (auth === undefined || auth.ttlMs === 0) return;
      token.expiresAt = now() + auth.ttlMs;
      token.ttlMs = auth.ttlMs;
      // Vault cuts a renewal at the token's maximum lifetime: from then on nothing is gained by another one. Right after the last
      // one it gains nothing anyway, and says nothing.
      if (!auth.renewable || (judgeable && auth.ttlMs < before * 1.1 + 500)) this.#age(token);
      log.info({ accessor: token.accessor, lifetime: lifetimeWords(auth.ttlMs), last: token.atItsEnd }, "renewed the Vault token");
      await local.touch();
      this.#schedule(token);
    } catch (error) {
      if (!hasKind(error, "denied") && !hasKind(error, "rejected")) throw error;
      this.#age(token);
      log.warn({ problem: error.message }, "the Vault token may not be renewed; it will be replaced");
    }
  }

  #afterFailure(error: unknown): void {
    const { log, signal } = this.#options;
    const token = this.#current;
    if (signal.aborted || token === undefined) return;
    if (hasKind(error, "invalidToken")) {
      this.#reject(token);
      void this.#acquireOnce();
      return;
    }
    const inMs = Math.min(RETRY_MOST_MS, Math.max(RETRY_LEAST_MS, this.#remaining(token) / 4));
    if (this.#ended(token)) return this.#setAside(token);
    log.warn(
      { problem: wordsOf(error), again: lifetimeWords(inMs), outage: isOutage(error) },
      "the Vault token could not be renewed or replaced",
    );
    this.#wakeIn(inMs);
  }

  #canBeRenewed(token: HeldToken): boolean {
    return token.renewable && !token.atItsEnd;
  }

  #remaining(token: HeldToken): number {
    return (token.expiresAt ?? Number.POSITIVE_INFINITY) - this.#options.now();
  }

  #outlives(token: HeldToken, ms: number): boolean {
    return this.#remaining(token) >= ms;
  }

  #ended(token: HeldToken): boolean {
    return this.#remaining(token) <= 0;
  }
}
