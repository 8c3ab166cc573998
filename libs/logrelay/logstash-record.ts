import { type Line, rawText } from "./line.ts";
import type { LineFormatter } from "./records.ts";
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
  const labels = textsOf(fields);
  return scrape === undefined ? messageRecord(labels, hostname) : eventRecord(labels, scrape, dropped, now);
}

function textsOf(values: Record<string, string | number>): Array<[string, string]> {
  return Object.entries(values).map(([key, value]) => [key, JSON.stringify(value)]);
}

function messageRecord(labels: Array<[string, string]>, hostname: string): LineFormatter {
  const own: Array<[string, string]> = [...labels, ["srchost", JSON.stringify(hostname)]];
  return (line, into) => {
    const members = new Map([...own, ["stream", JSON.stringify(line.stream)], ["level", JSON.stringify(levelOf(line))]]);
    into.write(recordOf(timeOf(line), JSON.stringify(rawText(line)), members));
  };
}

function eventRecord(
  labels: Array<[string, string]>,
  scrape: ScrapeOptions,
  dropped: (reason: ScrapeDrop) => void,
  now: () => number,
): LineFormatter {
  const allowed = tokenBucket(scrape.rateLimit ?? 0, now);
  const most = scrape.maxRecordBytes || Number.POSITIVE_INFINITY;
  const fields = textsOf(scrape.fields ?? {});
  return (line, into) => {
    const text = rawText(line);
    const event = scrape.format === "logfmt" ? parseLogfmt(text) : topLevelMembers(text);
    if (event === undefined && !scrape.all) return dropped("no event");
    for (const key of scrape.ignoredKeys) event?.delete(key);
    const members = event ?? wrapped(text);
    const time = members.get("time") ?? timeOf(line);
    const message = members.get("msg") ?? "null";
    members.delete("time");
    members.delete("msg");
    // The application's word goes before labels; where the event comes from does not depend on it.
    for (const [key, value] of labels) if (!members.has(key)) members.set(key, value);
    for (const [key, value] of fields) members.set(key, value);
    const record = recordOf(time, message, members);
    if (record.length > most) return dropped("too long");
    if (!allowed()) return dropped("rate limit");
    into.write(record);
  };
}

/** A line that is no event, as allegro's executor sends it. */
function wrapped(text: string): Map<string, string> {
  return new Map([
    ["level", '"INFO"'],
    ["logger", '"invalid-format"'],
    ["msg", JSON.stringify(text)],
  ]);
}

function timeOf(line: Line): string {
  return JSON.stringify(line.time === "" ? new Date().toISOString() : line.time);
}

/** All values are JSON texts. */
function recordOf(time: string, message: string, members: Map<string, string>): Buffer {
  // What the application itself wrote under Logstash's names wins.
  const entries = new Map([["@timestamp", time], ["@version", "1"], ["message", message], ...members]);
  const text = [...entries].map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(",");
  return Buffer.from(`{${text}}\n`);
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
  // A line feed between tokens, of lines that were joined, would end the record.
  const joined = text.includes("\n") || text.includes("\r");
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
      if (key !== undefined) members.set(key, joined ? text.slice(start, at).trim().replace(LINE_ENDS, " ") : text.slice(start, at).trim());
      key = undefined;
    }
  }
  return members;
}

const LINE_ENDS = /[\r\n]+/g;

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

const ESCAPE = /\\(?:u([0-9a-fA-F]{4})|([^u]|u))/g;
const ESCAPED: Record<string, string> = { n: "\n", r: "\r", t: "\t", b: "\b", f: "\f" };

/** What no escape is stays as it is written: half an event is worth more than none. */
function unescaped(whole: string, unit: string | undefined, character = ""): string {
  if (unit !== undefined) return String.fromCharCode(Number.parseInt(unit, 16));
  if (character === '"' || character === "\\" || character === "/") return character;
  return ESCAPED[character] ?? whole;
}

function logfmtValue(value: string): string {
  if (value.startsWith('"')) return JSON.stringify(value.slice(1, -1).replace(ESCAPE, unescaped));
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
