import { escapedBytes, goEscape, type Line, rawBytes, rawText, timeMs } from "./line.ts";
import type { SyslogSink } from "./types.ts";

/** Frames for a receiver, one after the other in one buffer. */
export interface Frames {
  bytes: Buffer;
  /** The end of each frame. */
  ends: number[];
}

/** Collects frames in a growing buffer that is handed over at `take`. */
export class FrameWriter {
  #bytes = Buffer.allocUnsafeSlow(128 * 1024);
  #length = 0;
  #ends: number[] = [];

  get length(): number {
    return this.#length;
  }

  get count(): number {
    return this.#ends.length;
  }

  write(bytes: Buffer, start = 0, end = bytes.length): void {
    const needed = this.#length + end - start;
    if (needed > this.#bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#bytes.length * 2));
      this.#bytes.copy(larger, 0, 0, this.#length);
      this.#bytes = larger;
    }
    bytes.copy(this.#bytes, this.#length, start, end);
    this.#length = needed;
  }

  /** Puts the length of what was written since `from`, and a space, before it: octet counting. */
  prefix(from: number): void {
    const count = Buffer.from(`${this.#length - from} `);
    this.write(count);
    this.#bytes.copyWithin(from + count.length, from, this.#length - count.length);
    count.copy(this.#bytes, from);
  }

  end(): void {
    this.#ends.push(this.#length);
  }

  take(): Frames {
    const frames = { bytes: Buffer.from(this.#bytes.subarray(0, this.#length)), ends: this.#ends };
    this.#length = 0;
    this.#ends = [];
    return frames;
  }
}

/** Writes the record of one line as frame content (without the frame's end). */
export type LineFormatter = (line: Line, into: FrameWriter) => void;

const ERROR_WORD = /error/i;

/** The incumbent's rule: stdout is info, stderr is error where it says so. */
export function levelOf(line: Line): "info" | "error" {
  if (line.stream === "stdout") return "info";
  if (!ERROR_WORD.test(line.buffer.toString("latin1", line.start, line.end))) return "info";
  // An escape may complete the word: ">rror" is written "\u003error".
  return line.kind !== "escaped" || ERROR_WORD.test(rawText(line)) ? "error" : "info";
}

const RESERVED = ["Level", "Payload", "Timestamp"];
/** Where what differs from line to line goes; no escaped text has a line feed in it. */
const SLOT = "\n";

/**
 * sidecar-executor's record: one JSON object, keys sorted, escaped as Go does, a line feed behind it. What stands
 * before and behind the payload is made once, and again when the second changes; the payload of a json-file record is copied as it
 * is. The time is Docker's, in seconds and in the local zone.
 */
export function jsonRecord(fields: Record<string, string>, hostname: string): LineFormatter {
  const entries = new Map<string, string | undefined>();
  for (const [key, value] of Object.entries(fields)) entries.set(RESERVED.includes(key) ? `fields.${key}` : key, value);
  entries.set("Hostname", hostname);
  for (const key of RESERVED) entries.set(key, undefined);
  // In this order also when sorted.
  const [beforeLevel = "", beforePayload = "", beforeTimestamp = "", end = ""] = [...entries.keys()]
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .map((key) => `"${goEscape(key)}":"${entries.get(key) === undefined ? SLOT : goEscape(entries.get(key) ?? "")}"`)
    .join(",")
    .split(SLOT);
  const headOf = (level: string): Buffer => Buffer.from(`{${beforeLevel}${level}${beforePayload}`);
  const heads = { info: headOf("info"), error: headOf("error") };
  let second = "";
  let tail = Buffer.alloc(0);
  return (line, into) => {
    const now = line.time.slice(0, 19);
    if (now !== second || now === "") {
      second = now;
      tail = Buffer.from(`${beforeTimestamp}${localTime(now === "" ? Date.now() : timeMs(`${now}Z`))}${end}}\n`);
    }
    into.write(heads[levelOf(line)]);
    if (line.kind === "raw") into.write(escapedBytes(line));
    else into.write(line.buffer, line.start, line.end);
    into.write(tail);
  };
}

/** RFC 3339 in seconds with the local zone's offset, "Z" for UTC: Go's time.RFC3339. */
export function localTime(ms: number): string {
  const minutes = -new Date(ms).getTimezoneOffset();
  const text = new Date(ms + minutes * 60_000).toISOString().slice(0, 19);
  if (minutes === 0) return `${text}Z`;
  const size = Math.abs(minutes);
  return `${text}${minutes < 0 ? "-" : "+"}${String(Math.trunc(size / 60)).padStart(2, "0")}:${String(size % 60).padStart(2, "0")}`;
}

const SEVERITIES: Record<string, number> = {
  emerg: 0,
  panic: 0,
  alert: 1,
  fatal: 2,
  critical: 2,
  crit: 2,
  error: 3,
  err: 3,
  warn: 4,
  warning: 4,
  notice: 5,
  info: 6,
  debug: 7,
  trace: 7,
};
const OWN_LEVEL = /"(?:level|severity|lvl)"\s*:\s*"([a-zA-Z]{3,8})"/;

/** A JSON line's own level, else the incumbent's rule, as a syslog severity. */
export function severityOf(line: Line): number {
  if (line.buffer[line.start] === 123) {
    const own = OWN_LEVEL.exec(rawText(line))?.[1]?.toLowerCase();
    if (own !== undefined && SEVERITIES[own] !== undefined) return SEVERITIES[own];
  }
  return levelOf(line) === "error" ? 3 : 6;
}

/** RFC 5424, without framing. `fields.ServiceName` stands in for the application's name. */
export function syslogRecord(sink: SyslogSink, fields: Record<string, string>, hostname: string, taskKey: string): LineFormatter {
  const facility = (sink.facility ?? 1) * 8;
  const app = header(sink.appName ?? fields.ServiceName ?? taskKey, 48);
  const rest = ` ${header(hostname, 255)} ${app} ${header(sink.procId ?? "-", 128)} `;
  const data = structuredData(sink.structuredData);
  const limit = sink.maxMessageBytes ?? (sink.transport === "udp" || sink.transport === "unix" ? 64_000 : Number.POSITIVE_INFINITY);
  const headOf = (severity: number, stream: string, time: string): string =>
    `<${facility + severity}>1 ${microseconds(time)}${rest}${header(sink.msgId ?? stream, 32)} ${data} `;
  return (line, into) => {
    const head = Buffer.from(headOf(severityOf(line), line.stream, line.time));
    const bytes = rawBytes(line);
    into.write(head);
    into.write(bytes, 0, Math.max(0, Math.min(bytes.length, limit - head.length)));
  };
}

/** At most six decimals are allowed. */
function microseconds(time: string): string {
  if (time === "") return new Date().toISOString();
  const [seconds = "", decimals = ""] = time.slice(0, -1).split(".");
  return decimals === "" ? time : `${seconds}.${decimals.slice(0, 6)}Z`;
}

/** A header field: printable ASCII without spaces, cut to the length that the RFC allows. */
function header(text: string, length: number): string {
  const clean = text.replace(/[^!-~]/g, "_").slice(0, length);
  return clean === "" ? "-" : clean;
}

function structuredData(data: SyslogSink["structuredData"]): string {
  if (data === undefined) return "-";
  const name = (text: string): string => header(text.replace(/[="\]]/g, "_"), 32);
  const parameters = Object.entries(data.parameters).map(([key, value]) => ` ${name(key)}="${value.replace(/["\\\]]/g, "\\$&")}"`);
  return `[${name(data.id)}${parameters.join("")}]`;
}
