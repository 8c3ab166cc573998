import { formatDuration, parseGoDuration } from "@berth/duration";
import type { OptionRecord } from "./option.ts";

/** A value that was understood, or what was expected instead, in words that follow "expected". */
export type Parsed = { ok: true; value: unknown } | { ok: false; expected: string };

// As Go's strconv.ParseBool has it, which the incumbents use.
const TRUE = new Set(["1", "t", "T", "TRUE", "true", "True"]);
const FALSE = new Set(["0", "f", "F", "FALSE", "false", "False"]);
const BYTE_UNITS: Record<string, number> = { "": 1, B: 1, kB: 1e3, KB: 1e3, KiB: 2 ** 10, MB: 1e6, MiB: 2 ** 20, GB: 1e9, GiB: 2 ** 30 };

/** Reads a value as it stands in the environment, in a flag or, as text, in the file. */
export function parseText(option: OptionRecord, text: string): Parsed {
  switch (option.type) {
    case "duration":
      return parseDuration(text, option);
    case "seconds":
      return parseSeconds(text, option.long === true);
    case "integer":
      return parseNumber(parseGoInteger(text), "a whole number", option.minimum, option.maximum);
    case "number":
      return parseNumber(/^[+-]?(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : undefined, "a number", option.minimum, option.maximum);
    case "bytes":
      return parseBytes(text, option.minimum, option.maximum);
    case "boolean":
      if (TRUE.has(text)) return { ok: true, value: true };
      return FALSE.has(text) ? { ok: true, value: false } : { ok: false, expected: "true or false" };
    case "enum":
      return option.values.includes(text) ? { ok: true, value: text } : { ok: false, expected: `one of ${option.values.join(", ")}` };
    case "list":
      return { ok: true, value: text === "" ? [] : text.split(",").map((entry) => entry.trim()) };
    case "address":
      return text === "" || isAddress(text) ? { ok: true, value: text } : { ok: false, expected: "host:port or [IPv6 address]:port" };
    case "url":
      return isHttpUrl(text) ? { ok: true, value: text } : { ok: false, expected: "an http:// or https:// URL" };
    case "path":
      return text === "" || text.startsWith("/") ? { ok: true, value: text } : { ok: false, expected: "an absolute path" };
    case "pattern":
      return isPattern(text) ? { ok: true, value: text } : { ok: false, expected: "a regular expression" };
    case "string":
      return { ok: true, value: text };
    case "yaml":
      return { ok: false, expected: "a section of the file" };
  }
}

/**
 * Reads a value of the file: the text of a scalar, the texts of a list, or undefined for anything else. Sections (`yaml`) are not
 * for this function.
 */
export function parseFileValue(option: OptionRecord, text: string | readonly string[] | undefined): Parsed {
  if (typeof text === "string") return parseText(option, text);
  if (option.type === "list") return text === undefined ? { ok: false, expected: "a list of texts" } : { ok: true, value: text };
  return { ok: false, expected: "a single value" };
}

/** The parsed default. */
export function defaultValue(option: OptionRecord): unknown {
  if (option.type === "yaml" || option.type === "list") return option.default;
  const parsed = parseText(option, String(option.default));
  if (!parsed.ok) throw new Error(`the default of a setting of type ${option.type} does not fit: ${option.default}`);
  return parsed.value;
}

/** Writes a parsed value as it could stand in the environment: what {@link parseText} reads back. */
export function formatValue(option: OptionRecord, value: unknown): string {
  if (option.type === "duration") return formatDuration(value as number);
  if (option.type === "seconds")
    return Number.isInteger((value as number) / 1000) ? String((value as number) / 1000) : formatDuration(value as number);
  if (option.type === "bytes") return formatBytes(value as number);
  if (option.type === "list") return (value as readonly string[]).join(",");
  return option.type === "yaml" ? JSON.stringify(value) : String(value);
}

function parseDuration(text: string, { positive, long }: { positive?: true; long?: true }): Parsed {
  const milliseconds = parseGoDuration(text);
  if (milliseconds === undefined) {
    const unit = /^\d+$/.test(text) ? ` (a unit is missing: ${text.slice(0, 20)}s?)` : "";
    return { ok: false, expected: `a duration like 30s or 1m30s${unit}` };
  }
  // Less than a millisecond as an interval would be a busy loop.
  const least = positive ? 1 : 0;
  if (milliseconds < least) return { ok: false, expected: `a duration of ${positive ? "1ms" : "0"} or more` };
  return within(milliseconds, long === true);
}

/** As sidecar-executor has it (an unsigned integer, also 0x10 and 010), or a duration as allegro's executor has it. */
function parseSeconds(text: string, long: boolean): Parsed {
  const seconds = parseGoInteger(text);
  if (seconds !== undefined && seconds >= 0) return within(seconds * 1000, long);
  const duration = seconds === undefined ? parseGoDuration(text) : undefined;
  if (duration !== undefined && duration >= 0) return within(duration, long);
  return { ok: false, expected: "seconds as a whole number, or a duration like 1m30s" };
}

const LONGEST_TIMER_MS = 24 * 86_400_000;

/** A timer longer than 2^31 ms fires at once: a grace period of a month would be none. */
function within(milliseconds: number, long: boolean): Parsed {
  if (!long && milliseconds > LONGEST_TIMER_MS) return { ok: false, expected: "at most 576h (24 days)" };
  if (!Number.isSafeInteger(Math.ceil(milliseconds))) return { ok: false, expected: "less than 285,000 years" };
  return { ok: true, value: milliseconds };
}

/** As Go reads an integer with base 0: 16, 0x10, 0o20, 020, 0b10000. */
function parseGoInteger(text: string): number | undefined {
  if (!/^[+-]?(0[xX][\da-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|0|[1-9]\d*)$/.test(text)) return undefined;
  const digits = text.replace(/^[+-]/, "");
  const value = /^0[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number(digits);
  return text.startsWith("-") && value !== 0 ? -value : value;
}

function parseNumber(
  value: number | undefined,
  what: string,
  minimum = -Number.MAX_SAFE_INTEGER,
  maximum = Number.MAX_SAFE_INTEGER,
): Parsed {
  if (value !== undefined && value >= minimum && value <= maximum) return { ok: true, value };
  return { ok: false, expected: `${what}${describeRange(minimum, maximum)}` };
}

/** " from 1 to 100", " of 0 or more", or nothing. */
export function describeRange(minimum = -Number.MAX_SAFE_INTEGER, maximum = Number.MAX_SAFE_INTEGER): string {
  if (maximum !== Number.MAX_SAFE_INTEGER) return ` from ${minimum} to ${maximum}`;
  return minimum === -Number.MAX_SAFE_INTEGER ? "" : ` of ${minimum} or more`;
}

function parseBytes(text: string, minimum = 0, maximum = Number.MAX_SAFE_INTEGER): Parsed {
  const match = /^(\d+(?:\.\d+)?) ?([kKMG]?i?B?)$/.exec(text);
  const unit = match === null ? undefined : BYTE_UNITS[match[2] as string];
  const value = match === null || unit === undefined ? Number.NaN : Math.round(Number(match[1]) * unit);
  if (!Number.isSafeInteger(value)) return { ok: false, expected: "a size like 500000, 64KiB or 8MiB" };
  const upTo = maximum === Number.MAX_SAFE_INTEGER ? " or more" : ` to ${formatBytes(maximum)}`;
  if (value < minimum || value > maximum) return { ok: false, expected: `a size of ${formatBytes(minimum)}${upTo}` };
  return { ok: true, value };
}

function formatBytes(value: number): string {
  for (const [unit, size] of [
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
    ["KiB", 2 ** 10],
  ] as const) {
    if (value >= size && value % size === 0) return `${value / size}${unit}`;
  }
  return String(value);
}

function isAddress(text: string): boolean {
  const match = /^(?:\[[\da-fA-F:.%\w]+\]|[^\s:[\]/]+):(\d{1,5})$/.exec(text);
  const port = Number(match?.[1]);
  return match !== null && port >= 1 && port <= 65535;
}

function isHttpUrl(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && /^https?:$/.test(url.protocol) && url.hostname !== "";
}

function isPattern(text: string): boolean {
  try {
    new RegExp(text);
    return true;
  } catch {
    return false;
  }
}
