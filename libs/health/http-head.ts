import { Refused } from "./probe-error.ts";

/** What a check needs of a response's head. */
export interface ResponseHead {
  status: number;
  location?: string;
  /** Bytes of the body, or how its end is known. */
  bodyEnd: number | "chunked" | "close";
}

const HEAD_END = Buffer.from("\r\n\r\n");
/** Node's own servers send at most 16 KiB; a head without end must not fill our memory. */
const MAX_HEAD_BYTES = 64 * 1024;

/** Parses a response's head once it is there whole, passing over 1xx ones; undefined before. Throws {@link Refused} for what is no HTTP. */
export function parseHead(bytes: Buffer): { head: ResponseHead; rest: Buffer } | undefined {
  if (bytes.length > 0 && !bytes.subarray(0, 5).equals(Buffer.from("HTTP/").subarray(0, Math.min(5, bytes.length)))) {
    throw new Refused("the answer is not HTTP");
  }
  const end = bytes.indexOf(HEAD_END);
  if (end === -1 || end > MAX_HEAD_BYTES) {
    if (bytes.length > MAX_HEAD_BYTES) throw new Refused(`the answer's head is larger than ${MAX_HEAD_BYTES / 1024} KiB`);
    return undefined;
  }
  const [first = "", ...lines] = bytes.subarray(0, end).toString("latin1").split("\r\n");
  const rest = bytes.subarray(end + HEAD_END.length);
  const status = Number(/^HTTP\/\d(?:\.\d)? (\d{3})(?: |$)/.exec(first)?.[1]);
  if (!Number.isInteger(status)) throw new Refused("the answer is not HTTP");
  if (status >= 100 && status < 200 && status !== 101) return parseHead(rest);
  const location = headerOf(lines, "location");
  return { head: { status, bodyEnd: bodyEnd(status, lines), ...(location === undefined ? {} : { location }) }, rest };
}

function bodyEnd(status: number, lines: readonly string[]): ResponseHead["bodyEnd"] {
  if (status === 204 || status === 304 || status === 101) return 0;
  if (/(?:^|,)\s*chunked\s*$/i.test(headerOf(lines, "transfer-encoding") ?? "")) return "chunked";
  const length = headerOf(lines, "content-length");
  return length !== undefined && /^\d+$/.test(length) ? Number(length) : "close";
}

function headerOf(lines: readonly string[], name: string): string | undefined {
  const line = lines.find((candidate) => candidate.slice(0, name.length + 1).toLowerCase() === `${name}:`);
  // The head was read byte by byte: a name with other letters than ASCII is UTF-8.
  return line === undefined ? undefined : Buffer.from(line.slice(name.length + 1).trim(), "latin1").toString("utf8");
}
