import { createHash } from "node:crypto";
import { isRecord, stringsFrom } from "./shapes.ts";
import type { TokenSource } from "./types.ts";
import type { VaultAuth } from "./vault-api.ts";

/** A token and what is known of it. Mutable: a renewal moves its end. */
export interface HeldToken {
  value: string;
  source: TokenSource;
  accessor?: string;
  displayName?: string;
  policies: string[];
  renewable: boolean;
  /** Milliseconds since the epoch; absent for one that does not expire, or where the policies hide it. */
  expiresAt?: number;
  /** Its lifetime at issue or at the last renewal; 0 where unknown. */
  ttlMs: number;
  /** A renewal did not move its end any more: it must be replaced. */
  atItsEnd: boolean;
  /** The fleet has it: other hosts use it too. */
  shared: boolean;
  /** Leases were issued under it: they end with it. */
  hasLeases: boolean;
}

/** Names a token in memory without being one. */
export function fingerprint(token: string): string {
  return createHash("sha256").update(token).digest("base64");
}

export function tokenFromLogin(source: TokenSource, auth: VaultAuth, now: number): HeldToken {
  return {
    value: auth.token,
    source,
    ...(auth.accessor === undefined ? {} : { accessor: auth.accessor }),
    policies: auth.policies,
    renewable: auth.renewable,
    ...(auth.ttlMs > 0 ? { expiresAt: now + auth.ttlMs } : {}),
    ttlMs: auth.ttlMs,
    atItsEnd: false,
    shared: false,
    hasLeases: false,
  };
}

/** From the answer of auth/token/lookup-self; `data` empty where the policies do not allow that. */
export function tokenFromLookup(source: TokenSource, value: string, data: Record<string, unknown>, now: number): HeldToken {
  const ttl = typeof data.ttl === "number" ? data.ttl : undefined;
  return {
    value,
    source,
    ...(typeof data.accessor === "string" && data.accessor !== "" ? { accessor: data.accessor } : {}),
    ...(typeof data.display_name === "string" ? { displayName: data.display_name } : {}),
    policies: stringsFrom(data.policies),
    renewable: data.renewable === true,
    ...(ttl !== undefined && ttl > 0 ? { expiresAt: now + ttl * 1000 } : {}),
    ttlMs: Math.max(typeof data.creation_ttl === "number" ? data.creation_ttl * 1000 : 0, (ttl ?? 0) * 1000),
    atItsEnd: false,
    shared: false,
    hasLeases: false,
  };
}

/** What the fleet keeps of a token. */
export interface SharedToken {
  token: string;
  accessor?: string;
  policies: string[];
  renewable: boolean;
  expiresAt?: number;
  ttlMs: number;
  atItsEnd: boolean;
}

export function toShared(token: HeldToken): SharedToken {
  return {
    token: token.value,
    ...(token.accessor === undefined ? {} : { accessor: token.accessor }),
    policies: token.policies,
    renewable: token.renewable,
    ...(token.expiresAt === undefined ? {} : { expiresAt: token.expiresAt }),
    ttlMs: token.ttlMs,
    atItsEnd: token.atItsEnd,
  };
}

/** Undefined for what no version of ours wrote. */
export function fromShared(payload: unknown): HeldToken | undefined {
  if (!isRecord(payload) || typeof payload.token !== "string") return undefined;
  return {
    value: payload.token,
    source: "fleet",
    ...(typeof payload.accessor === "string" ? { accessor: payload.accessor } : {}),
    policies: stringsFrom(payload.policies),
    renewable: payload.renewable === true,
    ...(typeof payload.expiresAt === "number" ? { expiresAt: payload.expiresAt } : {}),
    ttlMs: typeof payload.ttlMs === "number" ? payload.ttlMs : 0,
    atItsEnd: payload.atItsEnd === true,
    shared: true,
    hasLeases: false,
  };
}
