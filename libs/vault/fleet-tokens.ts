import { createHash } from "node:crypto";
import type { FleetSettings } from "@berth/fleet";
import { FleetAwayError, FleetSecret, type FleetState } from "@berth/fleet/secret";
import { fromShared, type HeldToken, toShared } from "./token.ts";
import type { VaultLog } from "./types.ts";

export interface FleetTokensOptions {
  settings: FleetSettings;
  /** Which Vault the tokens are for: hosts with another address or namespace do not share. */
  vault: string;
  log: VaultLog;
  /** Another host has a new token, or it is time to compare. */
  onChanged: () => void;
  /** This host was chosen to renew. */
  onDue: () => Promise<void>;
  lookMs?: number;
  random: () => number;
  now: () => number;
}

/** How long a host waits for another one that logs in before it goes on alone. */
const PATIENCE_MS = 60_000;
const TICK_LEAST_MS = 1_000;
const TICK_MOST_MS = 600_000;

/**
 * The token that the whole fleet uses, in terms of tokens: reading it, making it under the fleet's lock, offering ours.
 * Nothing here throws because of Redis; the fleet is then simply not there.
 */
export class FleetTokens {
  readonly #options: FleetTokensOptions;
  readonly #secret: FleetSecret;

  constructor(options: FleetTokensOptions) {
    this.#options = options;
    const { settings, vault, log, onChanged, onDue, lookMs, random } = options;
    const purpose = `vault-token-${createHash("sha256").update(vault).digest("hex").slice(0, 12)}`;
    this.#secret = new FleetSecret({ settings, log, purpose, onChanged, onDue, random, ...(lookMs === undefined ? {} : { lookMs }) });
  }

  get state(): FleetState {
    return this.#secret.state;
  }

  /** The fleet's token unless it has ended or `isDead`. */
  async read(isDead: (value: string) => boolean): Promise<HeldToken | "none" | undefined> {
    return this.#unlessAway(async () => {
      const record = await this.#secret.read();
      const token = record === undefined ? undefined : fromShared(record.payload);
      // The end is counted by our own clock from what Redis says is left; a token without an end keeps none.
      if (token?.expiresAt !== undefined) token.expiresAt = this.#options.now() + (record?.remainingMs ?? 0);
      const usable =
        token !== undefined && !isDead(token.value) && (token.expiresAt === undefined || token.expiresAt > this.#options.now() + 2_000);
      return usable ? token : "none";
    });
  }

  /**
   * The fleet's token, or one from `make` under the lock, stored for all. Waits for another host that is at it. What `make` throws
   * is thrown on.
   */
  async obtain(isDead: (value: string) => boolean, make: () => Promise<HeldToken>): Promise<HeldToken | undefined> {
    const until = this.#options.now() + PATIENCE_MS;
    while (this.#options.now() < until) {
      const present = await this.read(isDead);
      if (present === undefined) return undefined;
      if (present !== "none") return present;
      const made = await this.#make(isDead, make);
      if (made === undefined) return undefined;
      if (made !== "another host is at it") return made;
      await this.#secret.nextChange(200 + 400 * this.#options.random());
    }
    return undefined;
  }

  /** Runs `renew` under the lock unless the fleet's token has moved on meanwhile; stores what it gives. Undefined: away, or another is at it. */
  async renew(
    current: HeldToken,
    isDead: (value: string) => boolean,
    renew: () => Promise<HeldToken>,
  ): Promise<HeldToken | "busy" | undefined> {
    return this.#unlessAway(async () => {
      const outcome = await this.#secret.tryExclusively(async (lock) => {
        const latest = await this.read(isDead);
        if (latest !== undefined && latest !== "none" && movedOn(latest, current)) return latest;
        const token = await renew();
        token.shared = await this.#store(lock, token);
        return token;
      });
      return outcome.held ? outcome.value : "busy";
    });
  }

  close(): Promise<void> {
    return this.#secret.close();
  }

  async #make(
    isDead: (value: string) => boolean,
    make: () => Promise<HeldToken>,
  ): Promise<HeldToken | "another host is at it" | undefined> {
    return this.#unlessAway(async () => {
      const outcome = await this.#secret.tryExclusively(async (lock) => {
        const present = await this.read(isDead);
        if (present !== undefined && present !== "none") return present;
        const token = await make();
        token.shared = await this.#store(lock, token);
        return token;
      });
      return outcome.held ? outcome.value : "another host is at it";
    });
  }

  /** False where Redis went away meanwhile: the token is good, only not shared yet. */
  async #store(lock: { id: string }, token: HeldToken): Promise<boolean> {
    const tick = Math.min(TICK_MOST_MS, Math.max(TICK_LEAST_MS, (token.ttlMs || TICK_MOST_MS * 8) / 8));
    const stored = await this.#unlessAway(() => this.#secret.store(lock, toShared(token), token.expiresAt, tick));
    return stored ?? false;
  }

  async #unlessAway<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof FleetAwayError) return undefined;
      throw error;
    }
  }
}

function movedOn(latest: HeldToken, current: HeldToken): boolean {
  return latest.value !== current.value || (latest.expiresAt ?? 0) > (current.expiresAt ?? 0) + 1_000;
}
