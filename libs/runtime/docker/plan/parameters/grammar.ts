/**
 * The value grammars of the docker command line client's flags. Every parser returns the parsed value or throws a
 * {@link ValueError} whose message completes the sentence "the value …".
 */
import { isIPv4, isIPv6 } from "node:net";
import { parseGoDuration } from "@berth/duration";

export class ValueError extends Error {
  override readonly name = "ValueError";
}

const SIZE = /^(\d+(?:\.\d+)?) ?([kKmMgGtTpP])?[iI]?[bB]?$/;
const POWERS = "kmgtp";

/** Bytes with an optional binary unit: "64m", "1.5g", "512 kB", "1024". */
export function parseSize(value: string): number {
  const match = SIZE.exec(value);
  if (match === null) throw new ValueError("is not a size like 512m or 1.5g");
  const unit = match[2]?.toLowerCase();
  const bytes = Math.trunc(Number(match[1]) * (unit === undefined ? 1 : 1024 ** (POWERS.indexOf(unit) + 1)));
  if (!Number.isSafeInteger(bytes)) throw new ValueError("is too large a size");
  return bytes;
}

export function parseInteger(value: string, minimum = Number.MIN_SAFE_INTEGER, maximum = Number.MAX_SAFE_INTEGER): number {
  const number = /^[+-]?\d+$/.test(value) ? Number(value) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw new ValueError("is not a whole number");
  if (number < minimum || number > maximum) throw new ValueError(`is not between ${minimum} and ${maximum}`);
  return number;
}

/** As Go's ParseBool; an empty value is true, for frameworks that cannot leave the value out. */
export function parseBoolean(value: string): boolean {
  if (["", "1", "t", "T", "true", "TRUE", "True"].includes(value)) return true;
  if (["0", "f", "F", "false", "FALSE", "False"].includes(value)) return false;
  throw new ValueError("is neither true nor false");
}

/** A Go duration as nanoseconds, not negative. */
export function parseNanoseconds(value: string): number {
  const milliseconds = parseGoDuration(value);
  if (milliseconds === undefined) throw new ValueError("is not a duration like 1m30s or 500ms");
  const nanoseconds = Math.round(milliseconds * 1e6);
  if (nanoseconds < 0 || !Number.isSafeInteger(nanoseconds)) throw new ValueError("is not a duration that Docker takes");
  return nanoseconds;
}

/** Decimal CPUs as NanoCpus: "1.5" → 1500000000. */
export function parseCpus(value: string): number {
  if (!/^(\d+(\.\d{0,9})?|\.\d{1,9})$/.test(value)) throw new ValueError("is not a number of CPUs like 1.5, with at most nine decimals");
  const nano = Math.round(Number(value) * 1e9);
  if (!Number.isSafeInteger(nano)) throw new ValueError("is too many CPUs");
  return nano;
}

/** `key=value`; without an `=` the value is empty. */
export function parsePair(value: string): { key: string; value: string } {
  const equals = value.indexOf("=");
  const pair = equals === -1 ? { key: value, value: "" } : { key: value.slice(0, equals), value: value.slice(equals + 1) };
  if (pair.key === "") throw new ValueError("has no name before its '='");
  return pair;
}

/** `key=value`, the `=` required. */
export function parseStrictPair(value: string): { key: string; value: string } {
  if (!value.includes("=")) throw new ValueError("is not of the form name=value");
  return parsePair(value);
}

/** One record of comma-separated values, with double quotes around fields that hold commas. */
export function parseFields(value: string): string[] {
  const fields: string[] = [];
  let rest = value;
  for (;;) {
    const match = /^(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|$)/.exec(rest);
    if (match === null)
      throw new ValueError("is not a list of comma-separated fields (a field with a comma needs double quotes around it)");
    fields.push(match[1]?.replaceAll('""', '"') ?? match[2] ?? "");
    if (match[3] === "") return fields;
    rest = rest.slice(match[0].length);
  }
}

export function parseAddress(value: string, family?: 4 | 6): string {
  const bare = value.replace(/^\[(.*)\]$/, "$1");
  const good = family === 4 ? isIPv4(bare) : family === 6 ? isIPv6(bare) : isIPv4(bare) || isIPv6(bare);
  if (!good) throw new ValueError(`is not an IP${family === undefined ? "" : `v${family}`} address`);
  return bare;
}

export function parseMac(value: string): string {
  if (!/^[0-9a-fA-F]{2}(?:([:-])[0-9a-fA-F]{2})(?:\1[0-9a-fA-F]{2}){4}$/.test(value))
    throw new ValueError("is not a MAC address like 92:d0:c6:0a:29:33");
  return value;
}

const PROTOCOLS = ["tcp", "udp", "sctp"];

/** "80", "80-82" as first and last port. */
export function parsePortRange(value: string): { first: number; last: number } {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(value);
  const first = Number(match?.[1] ?? Number.NaN);
  const last = Number(match?.[2] ?? match?.[1] ?? Number.NaN);
  if (!(first >= 0 && last <= 65535 && first <= last)) throw new ValueError("is not a port or a range of ports between 0 and 65535");
  return { first, last };
}

/** Splits "80/udp" into port part and protocol (tcp by default). */
export function parseProtocol(value: string): { port: string; protocol: string } {
  const [port = "", protocol = "tcp", ...more] = value.split("/");
  if (more.length > 0 || !PROTOCOLS.includes(protocol.toLowerCase())) throw new ValueError("has a protocol other than tcp, udp and sctp");
  return { port, protocol: protocol.toLowerCase() };
}

/** "80/tcp", "7000-7002/udp" as one key per port. */
export function parseExpose(value: string): string[] {
  const { port, protocol } = parseProtocol(value);
  const { first, last } = parsePortRange(port);
  return Array.from({ length: last - first + 1 }, (_, index) => `${first + index}/${protocol}`);
}

export interface Published {
  /** "80/tcp" */
  key: string;
  hostIp: string;
  /** "", "8080" or "9000-9002" */
  hostPort: string;
}

/** `[[ip:][hostPort]:]containerPort[/protocol]` with ranges, or `published=…,target=…,protocol=…`. */
export function parsePublish(value: string): Published[] {
  return value.includes("=") ? [parseLongPublish(value)] : parseShortPublish(value);
}

function parseShortPublish(value: string): Published[] {
  const { port: spec, protocol } = parseProtocol(value);
  const match = /^(?:(?:(\[[^\]]*\]|[^:[\]]*):)?([^:]*):)?([^:]+)$/.exec(spec);
  if (match === null) throw new ValueError("is not of the form [[ip:][hostPort]:]containerPort[/protocol]");
  const hostIp = match[1] === undefined || match[1] === "" ? "" : parseAddress(match[1]);
  const container = parsePortRange(match[3] as string);
  const size = container.last - container.first + 1;
  const hostPart = match[2] ?? "";
  if (hostPart === "") return range(container, (port) => ({ key: `${port}/${protocol}`, hostIp, hostPort: "" }));

  const host = parsePortRange(hostPart);
  if (size === 1)
    return [
      {
        key: `${container.first}/${protocol}`,
        hostIp,
        hostPort: host.first === host.last ? String(host.first) : `${host.first}-${host.last}`,
      },
    ];
  if (host.last - host.first + 1 !== size) throw new ValueError("has ranges of different length");
  return range(container, (port) => ({ key: `${port}/${protocol}`, hostIp, hostPort: String(host.first + port - container.first) }));
}

function range<Value>(ports: { first: number; last: number }, make: (port: number) => Value): Value[] {
  return Array.from({ length: ports.last - ports.first + 1 }, (_, index) => make(ports.first + index));
}

function parseLongPublish(value: string): Published {
  let target: number | undefined;
  let published = "";
  let protocol = "tcp";
  for (const field of parseFields(value)) {
    const { key, value: part } = parseStrictPair(field);
    if (key === "target") target = parseInteger(part, 1, 65535);
    else if (key === "published") {
      const { first, last } = parsePortRange(part);
      published = first === last ? String(first) : `${first}-${last}`;
    } else if (key === "protocol") protocol = parseProtocol(`0/${part}`).protocol;
    else if (key !== "mode" || part !== "host") throw new ValueError("knows the fields target, published, protocol and mode=host");
  }
  if (target === undefined) throw new ValueError("has no target=<container port>");
  return { key: `${target}/${protocol}`, hostIp: "", hostPort: published };
}

/** `path:number` of a block device, the path absolute below /dev. */
export function parseDeviceValue(value: string, parse: (part: string) => number): { path: string; value: number } {
  const colon = value.lastIndexOf(":");
  if (!value.startsWith("/dev/") || colon === -1) throw new ValueError("is not of the form /dev/<device>:<value>");
  return { path: value.slice(0, colon), value: parse(value.slice(colon + 1)) };
}

/** An absolute path inside the container. */
export function parseContainerPath(value: string): string {
  if (!value.startsWith("/")) throw new ValueError("needs an absolute path in the container");
  return value;
}
