import http, { type IncomingMessage } from "node:http";
import { isIPv6 } from "node:net";
import { EACH, type PathStep, pick } from "./json-pick.ts";
import { readBody, reasonOf } from "./sidecar-http.ts";
import type { SeedsRequest } from "./types.ts";

/** An agent's state grows with every task that it has run. */
const MAX_ANSWER = 64 * 1024 * 1024;
const MASTER: PathStep[] = [new Set(["master_hostname"])];
const HOSTNAMES: PathStep[] = [new Set(["slaves"]), EACH, new Set(["hostname"])];
/** A name or an address; what it is put into is a URL, and a list with commas. */
const HOSTNAME = /^[\w.-]+$/;

/**
 * Asks the agent for its master and the master for its agents. Redirects are not followed: the credentials are for these two.
 * Throws with what was asked and what came of it.
 */
export async function readSeeds(request: SeedsRequest, timeoutMs: number, signal?: AbortSignal): Promise<string[]> {
  const scheme = request.scheme ?? "http";
  const [master] = await ask(`${scheme}://${request.agentEndpoint}/state`, MASTER, request, timeoutMs, signal);
  if (master === undefined) throw new Error(`the agent ${request.agentEndpoint} names no master (master_hostname)`);
  const host = isIPv6(master) ? `[${master}]` : master;
  const port = request.masterPort === "" ? "" : `:${request.masterPort}`;
  return await ask(`${scheme}://${host}${port}/slaves`, HOSTNAMES, request, timeoutMs, signal);
}

/** The host names at `path` in what `url` answers. */
async function ask(
  url: string,
  path: readonly PathStep[],
  request: SeedsRequest,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<string[]> {
  const deadline = AbortSignal.timeout(timeoutMs);
  const both = signal === undefined ? deadline : AbortSignal.any([signal, deadline]);
  const { credentials, ca, verify = true } = request;
  const headers =
    credentials === undefined
      ? {}
      : { authorization: `Basic ${Buffer.from(`${credentials.principal}:${credentials.secret}`).toString("base64")}` };
  const client = url.startsWith("https:") ? ((await import("node:https")).default as unknown as typeof http) : http;
  try {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const options = { headers, signal: both, agent: false as const, rejectUnauthorized: verify, ...(ca === undefined ? {} : { ca }) };
      client.get(url, options, resolve).on("error", reject);
    });
    if (response.statusCode !== 200) {
      response.destroy();
      throw new Error(`answered ${response.statusCode}`);
    }
    const { picked, met } = pick(await readBody(response, MAX_ANSWER, both), path);
    if (met === 0) throw new Error(`its answer has no ${[...(path[0] as Set<string>)][0]}`);
    return picked.flatMap(({ value }) => (typeof value === "string" && (HOSTNAME.test(value) || isIPv6(value)) ? [value] : []));
  } catch (error) {
    const why = deadline.aborted ? `no answer within ${timeoutMs / 1000} s` : reasonOf(error);
    throw new Error(`GET ${url}: ${why}`, { cause: error });
  }
}
