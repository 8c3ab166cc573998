import type { Duplex } from "node:stream";
import { connect } from "node:tls";
import { type Connection, type Network, open } from "./dial.ts";
import { parseHead, type ResponseHead } from "./http-head.ts";
import { Refused } from "./probe-error.ts";

export interface HttpTarget {
  scheme: "http" | "https";
  /** 127.0.0.1 or ::1. */
  host: string;
  port: number;
  /** As the task wrote it, with its query: nothing is encoded or normalised. */
  path: string;
}

/** As many as curl follows. */
const MAX_REDIRECTS = 50;

/**
 * One GET as Mesos makes it (`curl -L -k -g`): redirects followed, certificates not verified, the body read to its end and thrown
 * away. Returns the last response's status.
 */
export async function httpCheck(network: Network, first: HttpTarget, signal: AbortSignal): Promise<{ status: number; url: string }> {
  let target = first;
  for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
    const { status, location } = await get(network, target, signal);
    const url = urlOf(target);
    if (location === undefined || status < 300 || status > 399) return { status, url };
    target = redirected(location, url, first.host);
  }
  throw new Refused(`more than ${MAX_REDIRECTS} redirects from ${urlOf(first)}`);
}

function urlOf({ scheme, host, port, path }: HttpTarget): string {
  return `${scheme}://${authority(scheme, host, port)}${path}`;
}

function authority(scheme: "http" | "https", host: string, port: number): string {
  const name = host.includes(":") ? `[${host}]` : host;
  return port === (scheme === "http" ? 80 : 443) ? name : `${name}:${port}`;
}

/** `localhost` is never looked up: it may name another family than the check's. */
function redirected(location: string, from: string, loopback: string): HttpTarget {
  const url = URL.canParse(location, from) ? new URL(location, from) : undefined;
  if (url === undefined || (url.protocol !== "http:" && url.protocol !== "https:")) {
    throw new Refused(`${from} redirects to something that is no http or https URL`);
  }
  const scheme = url.protocol === "http:" ? "http" : "https";
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const port = url.port === "" ? (scheme === "http" ? 80 : 443) : Number(url.port);
  return { scheme, host: host === "localhost" ? loopback : host, port, path: `${url.pathname}${url.search}` };
}

async function get(network: Network, target: HttpTarget, signal: AbortSignal): Promise<ResponseHead> {
  // A line end in the path would be a second request.
  if (/[\r\n\0]/.test(target.path)) throw new Refused("the check's path contains a line end");
  const connection = await open(network, target.host, target.port, signal);
  let { stream } = connection;
  try {
    if (target.scheme === "https") stream = await secure(connection, signal);
    stream.write(
      `GET ${target.path} HTTP/1.1\r\nHost: ${authority(target.scheme, target.host, target.port)}\r\n` +
        "User-Agent: berth-health-check\r\nAccept: */*\r\nConnection: close\r\n\r\n",
    );
    return await readResponse({ stream, settled: connection.settled }, urlOf(target), signal);
  } finally {
    stream.destroy();
    connection.stream.destroy();
  }
}

/** A task's certificate names the task, not 127.0.0.1: Mesos does not verify it either. */
function secure({ stream: plain, settled }: Connection, signal: AbortSignal): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const stream = connect({ socket: plain, rejectUnauthorized: false, ALPNProtocols: ["http/1.1"] });
    const fail = (error: Error): void => {
      plain.destroy();
      // A refused connection is the better reason, where it was one.
      settled.then(() => reject(signal.aborted ? signal.reason : new Refused(`no TLS: ${error.message}`)), reject);
    };
    plain.once("error", fail);
    plain.once("end", () => fail(new Error("the connection was closed")));
    stream.on("error", fail);
    stream.once("secureConnect", () => resolve(stream));
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** Reads head and body; resolves with the head when the body has ended as it should. */
function readResponse({ stream, settled }: Connection, url: string, signal: AbortSignal): Promise<ResponseHead> {
  return new Promise((resolve, reject) => {
    let pending: Buffer = Buffer.alloc(0);
    let head: ResponseHead | undefined;
    let bodyBytes = 0;
    const fail = (error: unknown): void => reject(error);

    function take(chunk: Buffer): void {
      if (head === undefined) {
        pending = Buffer.concat([pending, chunk]);
        const parsed = parseHead(pending);
        if (parsed === undefined) return;
        head = parsed.head;
        chunk = parsed.rest;
        pending = Buffer.alloc(0);
      }
      bodyBytes += chunk.length;
      pending = Buffer.concat([pending, chunk]).subarray(-CHUNKED_END.length);
      if (isComplete(head, bodyBytes, pending)) resolve(head);
    }

    stream.on("data", (chunk: Buffer) => {
      try {
        take(chunk);
      } catch (error) {
        fail(error instanceof Refused ? new Refused(`${url}: ${error.message}`) : error);
      }
    });
    const ended = (how: string): void => {
      if (head !== undefined && head.bodyEnd === "close") return resolve(head);
      const when = head === undefined ? "without an answer" : "in the middle of the answer";
      stream.destroy();
      // A connection that never was one is the better reason.
      settled.then(() => fail(signal.aborted ? signal.reason : new Refused(`${url}: ${how} ${when}`)), fail);
    };
    stream.once("error", (error) => ended(`the connection broke (${error.message})`));
    stream.once("end", () => ended("the connection was closed"));
    signal.addEventListener("abort", () => fail(signal.reason), { once: true });
  });
}

const CHUNKED_END = Buffer.from("0\r\n\r\n");

function isComplete(head: ResponseHead, bodyBytes: number, tail: Buffer): boolean {
  // Where a redirect leads decides, not what it says itself.
  if (head.location !== undefined && head.status >= 300 && head.status <= 399) return true;
  if (head.bodyEnd === "close") return false;
  if (head.bodyEnd === "chunked") return tail.equals(CHUNKED_END);
  return bodyBytes >= head.bodyEnd;
}
