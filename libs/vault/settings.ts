import { parseGoDuration } from "@berth/duration";
import { type FleetSettings, FleetSettingsError, fleetSettingsFrom } from "@berth/fleet";

/** How to reach Vault and as whom, from the daemon's environment. Made by {@link vaultSettingsFrom}; durations in milliseconds. */
export interface VaultSettings {
  /** VAULT_ADDR without a slash at its end. */
  address: string;
  /** VAULT_NAMESPACE */
  namespace?: string;
  /** VAULT_TOKEN: used as it is, before every other source. */
  token?: string;
  /** VAULT_TOKEN_FILE: a bare token, shared with other executors of the host. */
  tokenFile?: string;
  /** VAULT_TTL: the lifetime to ask for; the file is trusted until an hour (at most half of it) before its end. */
  ttlMs: number;
  userpass?: { username: string; mount: string; password: SecretInput };
  appRole?: { roleId: string; mount: string; secretId?: SecretInput; wrapped: boolean };
  /** VAULT_MAX_RETRIES: extra attempts of one read that Vault itself answers with an error. */
  maxRetries: number;
  /** VAULT_CLIENT_TIMEOUT: of one request. */
  requestTimeoutMs: number;
  tls: TlsSettings;
  /** EXECUTOR_VAULT_SECRET_CACHE: how long an answer serves other launches; 0: not at all. */
  secretCacheMs: number;
  /** EXECUTOR_VAULT_WAIT: how long a launch waits for a Vault that is down or sealed. */
  waitMs: number;
  /** EXECUTOR_VAULT_CONCURRENCY: requests under way at once. */
  concurrency: number;
  /** Shared with other hosts when REDIS_URL is set. */
  fleet?: FleetSettings;
}

/** A secret in the environment, or in a file that is read anew for each login so that it may be rotated. */
export type SecretInput = { value: string } | { file: string };

/** As Vault's own client reads them. */
export interface TlsSettings {
  /** VAULT_CACERT: PEM file. */
  caFile?: string;
  /** VAULT_CAPATH: directory of PEM files. */
  caDirectory?: string;
  /** VAULT_CLIENT_CERT, VAULT_CLIENT_KEY */
  certificateFile?: string;
  keyFile?: string;
  /** VAULT_TLS_SERVER_NAME */
  serverName?: string;
  /** VAULT_SKIP_VERIFY */
  skipVerify: boolean;
}

/** A setting that cannot be used; the daemon does not start with it. */
export class VaultSettingsError extends Error {
  override readonly name = "VaultSettingsError";
  readonly variable: string;
  constructor(variable: string, problem: string) {
    super(`${variable} ${problem}`);
    this.variable = variable;
  }
}

const HOUR_MS = 3_600_000;
const TRUE = new Set(["1", "t", "T", "TRUE", "true", "True"]);
const FALSE = new Set(["0", "f", "F", "FALSE", "false", "False", ""]);

type Environment = Readonly<Record<string, string | undefined>>;

/** Reads every VAULT_* and EXECUTOR_VAULT_* setting (the latter also without their prefix) or throws {@link VaultSettingsError}. */
export function vaultSettingsFrom(environment: Environment): VaultSettings {
  const set = (name: string): string | undefined => environment[name] || undefined;
  const own = (name: string): string | undefined => environment[`EXECUTOR_${name}`] ?? environment[name];
  const username = set("VAULT_USERNAME");
  const password = inputFrom(environment, "VAULT_PASSWORD");
  if (username !== undefined && password === undefined) {
    throw new VaultSettingsError("VAULT_USERNAME", "is set without VAULT_PASSWORD or VAULT_PASSWORD_FILE");
  }
  const roleId = set("VAULT_ROLE_ID");
  const secretId = inputFrom(environment, "VAULT_SECRET_ID");
  const wrapped = booleanFrom(environment, "VAULT_SECRET_ID_WRAPPED");
  if (wrapped && secretId === undefined)
    throw new VaultSettingsError("VAULT_SECRET_ID_WRAPPED", "is set without VAULT_SECRET_ID or VAULT_SECRET_ID_FILE");
  const fleet = fleetFrom(environment);
  return {
    address: addressFrom(set("VAULT_ADDR") ?? "https://127.0.0.1:8200"),
    ...optional("namespace", set("VAULT_NAMESPACE")),
    ...optional("token", set("VAULT_TOKEN")?.trim()),
    ...optional("tokenFile", set("VAULT_TOKEN_FILE")),
    ttlMs: secondsFrom("VAULT_TTL", set("VAULT_TTL"), 24 * HOUR_MS),
    ...(username === undefined || password === undefined
      ? {}
      : { userpass: { username, password, mount: set("VAULT_USERPASS_MOUNT") ?? "userpass" } }),
    ...(roleId === undefined
      ? {}
      : { appRole: { roleId, wrapped, mount: set("VAULT_APPROLE_MOUNT") ?? "approle", ...optional("secretId", secretId) } }),
    maxRetries: integerFrom("VAULT_MAX_RETRIES", set("VAULT_MAX_RETRIES"), 2, 0, 100),
    requestTimeoutMs: secondsFrom("VAULT_CLIENT_TIMEOUT", set("VAULT_CLIENT_TIMEOUT"), 60_000),
    tls: {
      ...optional("caFile", set("VAULT_CACERT")),
      ...optional("caDirectory", set("VAULT_CAPATH")),
      ...optional("certificateFile", set("VAULT_CLIENT_CERT")),
      ...optional("keyFile", set("VAULT_CLIENT_KEY")),
      ...optional("serverName", set("VAULT_TLS_SERVER_NAME")),
      skipVerify: booleanFrom(environment, "VAULT_SKIP_VERIFY"),
    },
    secretCacheMs: durationFrom("EXECUTOR_VAULT_SECRET_CACHE", own("VAULT_SECRET_CACHE"), 5_000),
    waitMs: durationFrom("EXECUTOR_VAULT_WAIT", own("VAULT_WAIT"), 300_000),
    concurrency: integerFrom("EXECUTOR_VAULT_CONCURRENCY", own("VAULT_CONCURRENCY"), 8, 1, 256),
    ...optional("fleet", fleet),
  };
}

function fleetFrom(environment: Environment): FleetSettings | undefined {
  try {
    return fleetSettingsFrom(environment);
  } catch (error) {
    if (error instanceof FleetSettingsError) throw new VaultSettingsError(error.variable, error.message.slice(error.variable.length + 1));
    throw error;
  }
}

function optional<Name extends string, Value>(name: Name, value: Value | undefined): { [key in Name]?: Value } {
  return (value === undefined ? {} : { [name]: value }) as { [key in Name]?: Value };
}

function inputFrom(environment: Environment, name: string): SecretInput | undefined {
  const value = environment[name];
  if (value) return { value };
  const file = environment[`${name}_FILE`];
  return file ? { file } : undefined;
}

function addressFrom(text: string): string {
  const address = URL.parse(text);
  if (address === null || !/^https?:$/.test(address.protocol))
    throw new VaultSettingsError("VAULT_ADDR", `is not an http or https URL: ${withoutUser(text)}`);
  if (address.username !== "" || address.password !== "") throw new VaultSettingsError("VAULT_ADDR", "must not hold a user or password");
  return text.replace(/\/+$/, "");
}

function withoutUser(text: string): string {
  return text.replace(/\/\/[^/]*@/, "//…@");
}

function booleanFrom(environment: Environment, name: string): boolean {
  const text = environment[name] ?? "";
  if (TRUE.has(text)) return true;
  if (FALSE.has(text)) return false;
  throw new VaultSettingsError(name, `is neither true nor false: ${text}`);
}

/** Seconds as a bare number, as Vault's own settings have it, or a duration with its unit. */
function secondsFrom(name: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  return /^\d+$/.test(text) ? Number(text) * 1000 : durationFrom(name, text, fallback);
}

function durationFrom(name: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  const milliseconds = parseGoDuration(text);
  if (milliseconds === undefined || milliseconds < 0) throw new VaultSettingsError(name, `is not a duration like 5s or 1m30s: ${text}`);
  return milliseconds;
}

function integerFrom(name: string, text: string | undefined, fallback: number, least: number, most: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < least || value > most)
    throw new VaultSettingsError(name, `is not a number from ${least} to ${most}: ${text}`);
  return value;
}
