/** What a request to Vault can come to. Callers branch on it; the words for people are in the message. */
export type VaultErrorKind =
  /** 404: nothing is there. */
  | "missing"
  /** 403 of a token that is alive: a policy is missing. */
  | "denied"
  /** 403: the token is unknown, expired or revoked. */
  | "invalidToken"
  /** 400: a wrong password, a lease that is gone, a malformed request. */
  | "rejected"
  /** 503, 501: sealed or not initialised. */
  | "sealed"
  /** 429 */
  | "rateLimited"
  /** Any other error status. */
  | "server"
  /** No connection, or it broke. */
  | "unreachable"
  /** No answer in time. */
  | "timeout"
  /** The certificate of either side is not accepted. */
  | "tls"
  /** An answer that is not Vault's. */
  | "malformed"
  /** A setting of our own: a password file that cannot be read. */
  | "configuration";

export interface VaultErrorFields {
  status?: number;
  /** From the Retry-After header. */
  retryAfterMs?: number;
  cause?: unknown;
}

/** A request that Vault did not fulfil. The message never holds a value, a token or a password. */
export class VaultError extends Error {
  override readonly name = "VaultError";
  readonly kind: VaultErrorKind;
  readonly status: number | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(kind: VaultErrorKind, message: string, fields: VaultErrorFields = {}) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.kind = kind;
    this.status = fields.status;
    this.retryAfterMs = fields.retryAfterMs;
  }
}

const OUTAGES: ReadonlySet<VaultErrorKind> = new Set(["sealed", "rateLimited", "server", "unreachable", "timeout", "malformed"]);

/** Whether the same request may succeed later without anyone changing a secret, a policy or a setting. */
export function isOutage(error: unknown): error is VaultError {
  return error instanceof VaultError && OUTAGES.has(error.kind);
}

export function hasKind(error: unknown, kind: VaultErrorKind): error is VaultError {
  return error instanceof VaultError && error.kind === kind;
}

/** An error's own words, for a log field. */
export function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
