import { hostname } from "node:os";
import { join } from "node:path";

/** How a host finds the other hosts of its fleet. Made by {@link fleetSettingsFrom}. */
export interface FleetSettings {
  /** REDIS_URL: redis://, rediss:// or unix:///path/of.sock. May hold a password. */
  redisUrl: string;
  /** EXECUTOR_FLEET_KEY_FILE, or the systemd credential `berth-fleet-key`. Absent: secrets are not shared. */
  keyFile?: string;
  /** EXECUTOR_FLEET_NAME: keeps the keys of several fleets in one Redis apart. */
  name: string;
  /** What this host is called in records and logs. */
  host: string;
}

/** A setting that cannot be used. Never holds the URL's password. */
export class FleetSettingsError extends Error {
  override readonly name = "FleetSettingsError";
  readonly variable: string;
  constructor(variable: string, problem: string) {
    super(`${variable} ${problem}`);
    this.variable = variable;
  }
}

/** Reads the fleet's settings, or undefined where REDIS_URL is not set. Throws {@link FleetSettingsError}. */
export function fleetSettingsFrom(environment: Readonly<Record<string, string | undefined>>): FleetSettings | undefined {
  const redisUrl = environment.REDIS_URL;
  if (!redisUrl) return undefined;
  const url = URL.parse(redisUrl);
  const local = url?.protocol === "unix:" && url.pathname.length > 1;
  const remote = (url?.protocol === "redis:" || url?.protocol === "rediss:") && url.hostname !== "";
  if (!local && !remote) throw new FleetSettingsError("REDIS_URL", "is not redis://host, rediss://host or unix:///path/of.sock");
  const name = environment.EXECUTOR_FLEET_NAME || "default";
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(name))
    throw new FleetSettingsError("EXECUTOR_FLEET_NAME", "may hold letters, digits, dots and dashes only");
  const credentials = environment.CREDENTIALS_DIRECTORY;
  const keyFile = environment.EXECUTOR_FLEET_KEY_FILE || (credentials ? join(credentials, "berth-fleet-key") : undefined);
  return {
    redisUrl,
    ...(keyFile === undefined ? {} : { keyFile }),
    name,
    host: environment.EXECUTOR_LOG_HOSTNAME || hostname(),
  };
}
