import { type Line, rawText } from "./line.ts";
import type { FrameWriter, LineFormatter } from "./records.ts";
import { levelOf } from "./records.ts";
import type { ScrapeOptions } from "./types.ts";

/** Why a scraped line was not sent. */
export type ScrapeDrop = "too long" | "rate limit" | "no event";

/**
 * Logstash's JSON lines. Without `scrape` each line is a message; with it a line is read as an event (a JSON object or logfmt)
 * whose `time`, `msg` become `@timestamp`, `message`. Values keep their text: a number is never read into a float.
 */
export function logstashRecord(
  fields: Record<string, string>,
  hostname: string,
  scrape: ScrapeOptions | undefined,
  dropped: (reason: ScrapeDrop) => void,
  now: () => number = () => performance.now(),
): LineFormatter {
  const allowed = tokenBucket(scrape?.rateLimit ?? 0, now);
  const own = new Map(Object.entries(fields).map(([key, value]) => [key, JSON.stringify(value)]));
  return (line, into) => {
    if (scrape === undefined) {
      const members = new Map([
        ...own,
        ["srchost", JSON.stringify(hostname)],
        ["stream", JSON.stringify(line.stream)],
        ["level", JSON.stringify(levelOf(line))],
      ]);
      return write(line.time, JSON.stringify(rawText(line)), members, into);
    }
    if ((scrape.maxLineBytes ?? 0) > 0 && line.end - line.start > (scrape.maxLineBytes ?? 0)) return dropped("too long");
    const text = rawText(line);
    const event = scrape.format === "logfmt" ? parseLogfmt(text) : topLevelMembers(text);
    if (event === undefined && !scrape.all) return dropped("no event");
    if (!allowed()) return dropped("rate limit");
    const members =
      event ??
      new Map([
        ["level", '"INFO"'],
        ["logger", '"invalid-format"'],
        ["msg", JSON.stringify(text)],
      ]);
    if (event !== undefined) for (const key of scrape.ignoredKeys) members.delete(key);
    const time = members.get("time") ?? JSON.stringify(line.time === "" ? new Date().toISOString() : line.time);
    const message = members.get("msg") ?? "null";
    members.delete("time");
    members.delete("msg");
    for (const [key, value] of own) members.set(key, value);
    write(undefined, message, members, into, time);
  };
}

function write(time: string | undefined, message: string, members: Map<string, string>, into: FrameWriter, stamp?: string): void {
  const timestamp = stamp ?? JSON.stringify(time === undefined || time === "" ? new Date().toISOString() : time);
  // What the application itself wrote under Logstash's names wins.
  const entries = new Map([["@timestamp", timestamp], ["@version", "1"], ["message", message], ...members]);
  const text = [...entries].map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(",");
  into.write(Buffer.from(`{${text}}\n`));
}

/** The members of a JSON object with their values as written, or undefined where the text is none. `null` counts as an empty one. */
export function topLevelMembers(text: string): Map<string, string> | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (parsed === null) return new Map();
  if (typeof parsed !== "object" || Array.isArray(parsed)) return undefined;
  const members = new Map<string, string>();
  let depth = 0;
  let key: string | undefined;
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '"') {
      const end = stringEnd(text, at);
      if (depth === 1 && key === undefined) key = JSON.parse(text.slice(at, end)) as string;
      at = end - 1;
    } else if (character === "{" || character === "[") depth += 1;
    else if (character === ":" && depth === 1) start = at + 1;
    else if ((character === "," && depth === 1) || ((character === "}" || character === "]") && --depth === 0)) {
      if (key !== undefined) members.set(key, text.slice(start, at).trim());
      key = undefined;
    }
  }
  return members;
}

function stringEnd(text: string, from: number): number {
  let at = from + 1;
  while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at + 1;
}

const LOGFMT = /([^\s="]+)(?:=("(?:[^"\\]|\\.)*"|[^\s"]*))?(?:\s+|$)/gy;
const JSON_NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/** `key=value key="quoted value" flag`, as go-logfmt reads it; undefined where no key has a value. */
export function parseLogfmt(text: string): Map<string, string> | undefined {
  const members = new Map<string, string>();
  const trimmed = text.trim();
  let at = 0;
  let valued = false;
  LOGFMT.lastIndex = 0;
  for (let match = LOGFMT.exec(trimmed); match !== null && match[0] !== ""; match = LOGFMT.exec(trimmed)) {
    at = LOGFMT.lastIndex;
    const [, key = "", value] = match;
    if (value === undefined) members.set(key, "true");
    else {
      valued = true;
      members.set(key, logfmtValue(value));
    }
    if (at >= trimmed.length) break;
  }
  return valued && at >= trimmed.length ? members : undefined;
}

function logfmtValue(value: string): string {
  if (value.startsWith('"')) {
    try {
      return JSON.stringify(JSON.parse(value));
    } catch {
      return JSON.stringify(value.slice(1, -1));
    }
  }
  return JSON_NUMBER.test(value) || value === "true" || value === "false" ? value : JSON.stringify(value);
}

function tokenBucket(rate: number, now: () => number): () => boolean {
  let tokens = rate;
  let last = now();
  return () => {
    if (rate <= 0) return true;
    const at = now();
    tokens = Math.min(rate, tokens + ((at - last) / 1000) * rate);
    last = at;
    if (tokens < 1) return false;
    tokens -= 1;
    return true;
  };
}

export type { Line };
