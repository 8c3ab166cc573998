import { formatDuration } from "@berth/duration";

/** Small readings of what Vault sends and takes, shared by all that talk about its answers. */

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function stringsFrom(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}

/** Seconds of an answer as milliseconds; 0 for anything else. */
export function secondsFrom(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) && value > 0 ? value * 1000 : 0;
}

/** A duration as Vault takes it: whole seconds. */
export function vaultSeconds(milliseconds: number): string {
  return `${Math.max(1, Math.round(milliseconds / 1000))}s`;
}

/** For messages: "1h", or "for ever". */
export function lifetimeWords(milliseconds: number | undefined): string {
  return milliseconds === undefined ? "for ever" : formatDuration(Math.max(0, Math.round(milliseconds / 1000) * 1000));
}
