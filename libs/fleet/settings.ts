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

/** Reads the fleet's settings, or undefined where REDIS_URL is not set. */
export function fleetSettingsFrom(environment: Readonly<Record<string, string | undefined>>): FleetSettings | undefined {
  const redisUrl = environment.REDIS_URL;
  if (!redisUrl) return undefined;
  const credentials = environment.CREDENTIALS_DIRECTORY;
  const keyFile = environment.EXECUTOR_FLEET_KEY_FILE || (credentials ? join(credentials, "berth-fleet-key") : undefined);
  return {
    redisUrl,
    ...(keyFile === undefined ? {} : { keyFile }),
    name: environment.EXECUTOR_FLEET_NAME || "default",
    host: environment.EXECUTOR_LOG_HOSTNAME || hostname(),
  };
}
