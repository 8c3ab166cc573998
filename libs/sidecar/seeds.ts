import http, { type IncomingMessage } from "node:http";
import { readBody } from "./sidecar-http.ts";
import type { SeedsRequest } from "./types.ts";

const MAX_ANSWER = 256 * 1024 * 1024;

/** Asks the agent for its master and the master for its agents. Throws with what was asked and what came of it. */
export async function readSeeds(request: SeedsRequest, timeoutMs: number, signal?: AbortSignal): Promise<string[]> {
  const scheme = request.scheme ?? "http";
  const state = await ask(`${scheme}://${request.agentEndpoint}/state`, request, timeoutMs, signal);
  const master = (state as { master_hostname?: unknown } | null)?.master_hostname;
  if (typeof master !== "string" || master === "") throw new Error(`the agent ${request.agentEndpoint} names no master (master_hostname)`);
  const port = request.masterPort === "" ? "" : `:${request.masterPort}`;
  const answer = await ask(`${scheme}://${master}${port}/slaves`, request, timeoutMs, signal);
  const slaves = (answer as { slaves?: unknown } | null)?.slaves;
  if (!Array.isArray(slaves)) throw new Error(`the master ${master}${port} lists no agents`);
  return slaves.flatMap(({ hostname }: { hostname?: unknown }) => (typeof hostname === "string" && hostname !== "" ? [hostname] : []));
}

async function ask(url: string, request: SeedsRequest, timeoutMs: number, signal?: AbortSignal): Promise<unknown> {
  const deadline = AbortSignal.timeout(timeoutMs);
  const both = signal === undefined ? deadline : AbortSignal.any([signal, deadline]);
  const { credentials, ca } = request;
  const headers =
    credentials === undefined
      ? {}
      : { authorization: `Basic ${Buffer.from(`${credentials.principal}:${credentials.secret}`).toString("base64")}` };
  const client = url.startsWith("https:") ? ((await import("node:https")).default as unknown as typeof http) : http;
  try {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const options = { headers, signal: both, agent: false as const, ...(ca === undefined ? {} : { ca }) };
      client.get(url, options, resolve).on("error", reject);
    });
    const body = await readBody(response, MAX_ANSWER, both);
    if (response.statusCode !== 200) throw new Error(`answered ${response.statusCode}`);
    return JSON.parse(body.toString("utf8"));
  } catch (error) {
    const why = deadline.aborted ? `no answer within ${timeoutMs / 1000} s` : (error as Error).message;
    throw new Error(`GET ${url}: ${why}`, { cause: error });
  }
}
