/**
 * Durations in the two grammars that our inputs use, as milliseconds. Host-independent.
 */

const MILLISECONDS: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, μs: 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const MESOS_MILLISECONDS: Record<string, number> = {
  ns: 1e-6,
  us: 1e-3,
  ms: 1,
  secs: 1000,
  mins: 60_000,
  hrs: 3_600_000,
  days: 86_400_000,
  weeks: 604_800_000,
};

/**
 * Parses a duration as Go's `time.ParseDuration` does ("1m30s", "500ms", "-2h", a bare "0") and returns milliseconds, or
 * undefined where the text is none. A number without a unit is refused, as Go refuses it.
 */
export function parseGoDuration(text: string): number | undefined {
  if (/^[+-]?0$/.test(text)) return 0;
  const match = /^([+-]?)((?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)$/.exec(text);
  if (match === null) return undefined;
  let total = 0;
  for (const part of (match[2] as string).matchAll(/(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g)) {
    total += Number(part[1]) * (MILLISECONDS[part[2] as string] as number);
  }
  return match[1] === "-" ? -total : total;
}

/** Parses a duration as Mesos prints it (stout/duration.hpp: "5secs", "1.5mins", "15mins") and returns milliseconds, or undefined. */
export function parseMesosDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(ns|us|ms|secs|mins|hrs|days|weeks)$/.exec(text);
  return match === null ? undefined : Number(match[1]) * (MESOS_MILLISECONDS[match[2] as string] as number);
}

/** Writes milliseconds as a person reads them, in Go's grammar: 90_000 → "1m30s", 250 → "250ms", 0 → "0s". */
export function formatDuration(milliseconds: number): string {
  if (!Number.isFinite(milliseconds)) return "forever";
  const sign = milliseconds < 0 ? "-" : "";
  let rest = Math.abs(milliseconds);
  if (rest < 1000) return rest === 0 ? "0s" : `${sign}${Number(rest.toFixed(3))}ms`;
  let text = sign;
  for (const [unit, size] of [
    ["h", 3_600_000],
    ["m", 60_000],
  ] as const) {
    if (rest >= size) {
      text += `${Math.floor(rest / size)}${unit}`;
      rest %= size;
    }
  }
  return rest > 0 ? `${text}${Number((rest / 1000).toFixed(3))}s` : text;
}
