/**
 * What the supervisor and the Vault thread say to each other. Everything here survives structured clone.
 */

/** A variable whose value came out of Vault. `value` goes to the container's environment and to the redaction registry, nowhere else. */
export interface ResolvedSecret {
  /** The variable's name. */
  name: string;
  value: string;
  /** The reference as written: "vault://secret/app?key=password". */
  source: string;
}

/**
 * What must be kept of a lease so that a restarted supervisor can renew and revoke it: goes into the task's checkpoint (and,
 * reduced to its id, into a container label). Holds no secret: a lease id is of no use without a token.
 */
export interface LeaseRecord {
  leaseId: string;
  /** `aws`: the task's own AWS credentials; `secret`: a dynamic secret that a variable refers to. */
  kind: "aws" | "secret";
  /** The API path that it was read from: "aws/creds/deploy". */
  path: string;
  /** When the credentials end unless they are renewed, milliseconds since the epoch. */
  expiresAt: number;
  renewable: boolean;
  /** Asked for at each renewal, milliseconds. */
  incrementMs: number;
}

export interface ResolveRequest {
  /** Names the task towards `release` and `adopt`, and in logs: unique per run of a task. */
  taskKey: string;
  environment: Readonly<Record<string, string>>;
}

export interface Resolution {
  /** The whole environment, every `vault://` value replaced. */
  environment: Record<string, string>;
  secrets: ResolvedSecret[];
  leases: LeaseRecord[];
}

export interface AwsRequest {
  taskKey: string;
  /** EXECUTOR_AWS_ROLE. */
  role: string;
  /** EXECUTOR_AWS_ROLE_TTL; 0 takes what Vault gives. */
  ttlMs: number;
}

export interface AwsCredentials {
  /** AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where the role gives one, AWS_SESSION_TOKEN. */
  environment: Record<string, string>;
  secrets: ResolvedSecret[];
  leases: LeaseRecord[];
}

/** Why a launch waits for Vault right now, for a status message and `berth ps`. */
export interface Waiting {
  taskKey: string;
  /** "Vault at https://vault:8200 is sealed" */
  reason: string;
  /** When the launch gives up, milliseconds since the epoch. */
  until: number;
}

/** A lease that can no longer be kept alive: its task must be ended before the credentials stop working. */
export interface LeaseLost {
  taskKey: string;
  lease: LeaseRecord;
  /** Fit for a status message. */
  reason: string;
}

/** Where the token in use came from. */
export type TokenSource = "VAULT_TOKEN" | "file" | "fleet" | "userpass" | "approle";

/** `berth vault status`. */
export interface VaultStatus {
  address: string;
  namespace?: string;
  /** `open`: calls go through; otherwise why launches wait. */
  state: "open" | "sealed" | "unreachable" | "failing";
  problem?: string;
  /** Absent until the first task needed one. */
  token?: {
    source: TokenSource;
    accessor?: string;
    /** "userpass-svc" */
    displayName?: string;
    policies: string[];
    renewable: boolean;
    /** Milliseconds since the epoch; absent for a token that does not expire. */
    expiresAt?: number;
    renewsAt?: number;
  };
  tokenFile?: string;
  fleet: { state: "off" | "joined" | "away" | "wrong key"; problem?: string; hostWithLock?: string };
  leases: number;
  cachedSecrets: number;
  counters: VaultCounters;
}

/** Only ever grow. Names as in the metrics (`berth_vault_<name>_total`). */
export interface VaultCounters {
  /** Nearly flat on a healthy host. */
  logins: number;
  loginFailures: number;
  tokenRenewals: number;
  /** Requests to Vault of any kind. */
  requests: number;
  requestFailures: number;
  secretReads: number;
  /** Answers out of the short cache. */
  cacheHits: number;
  /** Answers shared with a read that was already under way. */
  sharedReads: number;
  leasesIssued: number;
  leaseRenewals: number;
  leasesRevoked: number;
  leasesLost: number;
}

/** A line that the thread wants in the daemon's log. */
export interface ThreadLogLine {
  level: "debug" | "info" | "warn";
  fields: Record<string, unknown>;
  message: string;
}

/** The part of a logger that the Vault code needs (pino fits). */
export interface VaultLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}
