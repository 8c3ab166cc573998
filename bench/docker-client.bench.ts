/**
 * What a client costs on the way to dockerd: calls per second for `_ping` and inspect, one at a time and eight at once, and what
 * a worker thread weighs once the client is loaded. docs/design/docker-client.md is about the figures.
 *
 * `npm run bench -- docker-client [milliseconds per case] [rounds]`; `ratio` is the time of an inspect, eight at once, of Berth's
 * own client divided by that of dockerode as it comes (over Node's global agent: kept alive, without a bound), the median of rounds
 * that take the clients in turn.
 */
import { execFileSync } from "node:child_process";
import http from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { inspect } from "node:util";
import { DockerEngine } from "@berth/runtime/docker/engine";
import { dockerEndpoint } from "@berth/runtime/docker/engine-endpoint";
import { DockerHttp } from "@berth/runtime/docker/engine-http";
import { BUSYBOX_IMAGE, sharedDockerd, startSocketProxy, tempDir } from "@berth/test-harness";
import Docker from "dockerode";
import { build } from "esbuild";
import { Pool } from "undici";

const POOL = 8;
const REFERENCE = "dockerode";
const CROWD = 30;
const milliseconds = Number(process.argv[2] ?? 300);
const rounds = Number(process.argv[3] ?? 7);

interface Client {
  name: string;
  get(path: string): Promise<unknown>;
  close(): unknown;
}

const MAKERS = [dockerode, dockerodeWithAgent, dockerodeWithOpaqueAgent, undici, nodeHttp, ours, oursInThread];

await using dockerd = await sharedDockerd();
await using proxy = await startSocketProxy(dockerd.host);
const { Id } = await dockerd.api.call<{ Id: string }>("POST", "/containers/create", { Image: BUSYBOX_IMAGE });
try {
  const clients: Client[] = [];
  for (const make of MAKERS) clients.push(await make(dockerd.host));
  const rates = await measure(clients, Id);
  for (const client of clients) await client.close();
  const connections = await countConnections();
  const ratios = rates[`inspect_${POOL}`]
    ?.get("ours")
    ?.map((rate, round) => (rates[`inspect_${POOL}`]?.get(REFERENCE)?.[round] ?? 0) / rate);
  const callsPerSecond = Object.fromEntries(
    Object.entries(rates).map(([what, byClient]) => [
      what,
      Object.fromEntries([...byClient].map(([name, all]) => [name, Math.round(median(all))])),
    ]),
  );
  const ratio = Number(median(ratios ?? []).toFixed(3));
  console.log(JSON.stringify({ bench: "docker-client", ratio, callsPerSecond, connections, threadPssMb: await threadWeights() }));
} finally {
  await dockerd.api.call("DELETE", `/containers/${Id}?force=1`);
}

/** Calls per second by kind of call, client and round. The clients take turns, so that a busy moment of the machine meets all of them. */
async function measure(clients: Client[], id: string): Promise<Record<string, Map<string, number[]>>> {
  const rates: Record<string, Map<string, number[]>> = {};
  for (const [what, path] of [["ping", "/_ping"] as const, ["inspect", `/containers/${id}/json`] as const]) {
    for (const concurrency of [1, POOL]) {
      const byClient = new Map(clients.map(({ name }) => [name, [] as number[]]));
      rates[`${what}_${concurrency}`] = byClient;
      for (const client of clients) await repeat(client, path, concurrency, 100);
      for (let round = 0; round < rounds; round++) {
        for (const client of clients) byClient.get(client.name)?.push(await repeat(client, path, concurrency, milliseconds));
      }
    }
  }
  return rates;
}

/** Connections that each client makes when thirty callers come at once, as with thirty tasks. */
async function countConnections(): Promise<Record<string, number>> {
  const connections: Record<string, number> = {};
  for (const make of MAKERS) {
    const client = await make(proxy.host);
    const before = proxy.total();
    await repeat(client, "/_ping", CROWD, 300);
    connections[client.name] = proxy.total() - before;
    await client.close();
  }
  return connections;
}

function median(values: number[]): number {
  return [...values].sort((one, other) => one - other)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** Calls per second. */
async function repeat(client: Client, path: string, concurrency: number, forMs: number): Promise<number> {
  const begun = performance.now();
  let done = 0;
  async function loop(): Promise<void> {
    while (performance.now() - begun < forMs) {
      await client.get(path);
      done += 1;
    }
  }
  await Promise.all(Array.from({ length: concurrency }, loop));
  return (done * 1000) / (performance.now() - begun);
}

function dockerodeOver(name: string, host: string, agent: http.Agent | undefined): Client {
  const docker = new Docker({ socketPath: socketOf(host), ...(agent === undefined ? {} : { agent }) });
  const get = (path: string): Promise<unknown> => {
    const id = /^\/containers\/(.*)\/json$/.exec(path)?.[1];
    return id === undefined ? docker.ping() : docker.getContainer(id).inspect();
  };
  return { name, get, close: () => agent?.destroy() };
}

function dockerode(host: string): Client {
  return dockerodeOver("dockerode", host, undefined);
}

function dockerodeWithAgent(host: string): Client {
  return dockerodeOver("dockerode, keep-alive agent", host, new http.Agent({ keepAlive: true, maxSockets: POOL }));
}

/** docker-modem prints the request's options with util.inspect to any depth for a debug line that nobody sees; this agent stays short. */
function dockerodeWithOpaqueAgent(host: string): Client {
  const agent = Object.assign(new http.Agent({ keepAlive: true, maxSockets: POOL }), { [inspect.custom]: () => "Agent" });
  return dockerodeOver("dockerode, opaque keep-alive agent", host, agent);
}

function undici(host: string): Client {
  const pool = new Pool("http://docker", { socketPath: socketOf(host), connections: POOL });
  const get = async (path: string): Promise<unknown> => {
    const { body, headers } = await pool.request({ method: "GET", path });
    const text = await body.text();
    return headers["content-type"] === "application/json" ? JSON.parse(text) : text;
  };
  return { name: "undici pool", get, close: () => pool.close() };
}

function nodeHttp(host: string): Client {
  const agent = new http.Agent({ keepAlive: true, maxSockets: POOL });
  const get = (path: string): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const sent = http.get({ socketPath: socketOf(host), agent, path }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString();
          resolve(response.headers["content-type"] === "application/json" ? JSON.parse(text) : text);
        });
      });
      sent.on("error", reject);
    });
  return { name: "node:http, keep-alive agent", get, close: () => agent.destroy() };
}

/** With deadlines, bounds and retries, as the docker thread uses it. */
async function ours(host: string): Promise<Client> {
  const client = await DockerHttp.open(dockerEndpoint({ DOCKER_HOST: host }), { calls: POOL });
  const get = (path: string): Promise<unknown> => client.call({ operation: "bench", method: "GET", path, deadlineMs: 30_000 });
  return { name: "ours", get, close: () => client.close() };
}

/** As the supervisor's main thread sees it: the hop between threads and reading the answer included. */
function oursInThread(host: string): Client {
  const engine = new DockerEngine({
    endpoint: dockerEndpoint({ DOCKER_HOST: host }),
    watchLabel: "bench",
    log: console,
    limits: { calls: POOL },
  });
  const get = (path: string): Promise<unknown> => {
    const id = /^\/containers\/(.*)\/json$/.exec(path)?.[1];
    return id === undefined ? engine.ping() : engine.inspect(id);
  };
  return { name: "ours, from the main thread", get, close: () => engine.close() };
}

function socketOf(host: string): string {
  return host.replace("unix://", "");
}

/** MiB of proportional set size that a worker thread adds to a bare process once it has loaded each client. */
async function threadWeights(): Promise<Record<string, number>> {
  await using folder = await tempDir("weights");
  const bundle = join(folder.path, "engine.cjs");
  await build({
    entryPoints: [join(dirname(fileURLToPath(import.meta.resolve("@berth/runtime/docker/engine"))), "engine.thread.ts")],
    outfile: bundle,
    bundle: true,
    platform: "node",
    external: ["piscina"],
    logLevel: "error",
  });
  const require = createRequire(import.meta.url);
  const modules = {
    "empty thread": "node:os",
    "node:http": "node:http",
    ours: bundle,
    undici: require.resolve("undici"),
    dockerode: require.resolve("dockerode"),
  };
  return Object.fromEntries(Object.entries(modules).map(([name, path]) => [name, threadWeight(path)]));
}

function threadWeight(module: string): number {
  const thread = `require(${JSON.stringify(module)}); require("node:worker_threads").parentPort.postMessage(1); setInterval(() => {}, 1e6);`;
  const script = `
    const { readFileSync } = require("node:fs");
    const { Worker } = require("node:worker_threads");
    const pss = () => Number(/^Pss:\\s+(\\d+)/m.exec(readFileSync("/proc/self/smaps_rollup", "utf8"))[1]);
    setTimeout(() => {
      const before = pss();
      new Worker(${JSON.stringify(thread)}, { eval: true }).once("message", () => setTimeout(() => {
        console.log(pss() - before);
        process.exit();
      }, 300));
    }, 300);`;
  return Number(
    (Number(execFileSync(process.execPath, ["-e", script], { env: { ...process.env, NODE_PATH: "node_modules" } })) / 1024).toFixed(1),
  );
}
