import type { StreamName } from "./types.ts";

/**
 * One line of a task's output as it is passed from source to sinks: a view into a buffer, without its line feed. Valid only until
 * the source reads on; a sink takes what it needs before it returns.
 *
 * `plain`: valid UTF-8 that means the same raw and inside a JSON string. `escaped`: the inside of a JSON string as Go writes it.
 * `raw`: any bytes. Most lines of a json-file are plain or wanted escaped again, so that nothing is decoded.
 */
export interface Line {
  buffer: Buffer;
  start: number;
  end: number;
  kind: "plain" | "escaped" | "raw";
  stream: StreamName;
  /** RFC 3339 with up to nine decimals, UTC ("Z"); empty where the source has no time. */
  time: string;
  /** Where its first record begins in the source; 0 for sources without offsets. */
  offset: number;
}

const UNSAFE = /[<>&\u2028\u2029\b\f]/g;

/** The inside of a JSON string as Go's encoding/json writes it, so that records equal the incumbent's byte for byte. */
export function goEscape(text: string): string {
  return JSON.stringify(text)
    .slice(1, -1)
    .replace(/\\b/g, (match, at: number, whole: string) => (escapes(whole, at) ? "\\u0008" : match))
    .replace(/\\f/g, (match, at: number, whole: string) => (escapes(whole, at) ? "\\u000c" : match))
    .replace(UNSAFE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Whether the backslash at `at` begins an escape and is not itself escaped. */
function escapes(text: string, at: number): boolean {
  let before = at;
  while (before > 0 && text[before - 1] === "\\") before -= 1;
  return (at - before) % 2 === 0;
}

/** The line's bytes as the task wrote them (as far as its log driver kept them); a view where that is possible. */
export function rawBytes(line: Line): Buffer {
  if (line.kind !== "escaped") return line.buffer.subarray(line.start, line.end);
  return Buffer.from(rawText(line), "utf8");
}

export function rawText(line: Line): string {
  const text = line.buffer.toString("utf8", line.start, line.end);
  return line.kind === "escaped" ? unescaped(text) : text;
}

/** What no JSON writer escaped stays as it is: a host that lost power leaves zeros in a log file. */
function unescaped(text: string): string {
  try {
    return JSON.parse(`"${text}"`) as string;
  } catch {
    return text;
  }
}

/** The line as the inside of a JSON string. */
export function escapedBytes(line: Line): Buffer {
  if (line.kind === "raw") return Buffer.from(goEscape(rawText(line)), "utf8");
  return line.buffer.subarray(line.start, line.end);
}

/** Cuts a line at `limit` bytes of its own and puts a mark behind it. */
export function cutLine(line: Line, limit: number): Line {
  const bytes = rawBytes(line);
  if (bytes.length <= limit) return line;
  let end = limit;
  // Not in the middle of a UTF-8 character.
  while (end > limit - 4 && ((bytes[end] as number) & 0xc0) === 0x80) end -= 1;
  const buffer = Buffer.concat([bytes.subarray(0, end), Buffer.from(`[cut: ${bytes.length - end} more bytes]`)]);
  return { ...line, buffer, start: 0, end: buffer.length, kind: "raw" };
}

/** Docker trims zeros from its times: makes two of them comparable as text. */
export function comparableTime(time: string): string {
  if (time.length < 20) return time;
  return `${time.slice(0, 19)}.${time.slice(20, -1).padEnd(9, "0")}Z`;
}

/** Milliseconds since the epoch; NaN for none. */
export function timeMs(time: string): number {
  return Date.parse(time);
}

/** Now, in the form of Docker's times. */
export function nowTime(): string {
  return new Date().toISOString();
}
