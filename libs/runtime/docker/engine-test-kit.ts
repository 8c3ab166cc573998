import { randomBytes } from "node:crypto";
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { join } from "node:path";
import { BUSYBOX_IMAGE, tempDir } from "@berth/test-harness";
import { EngineConnection } from "./engine-connection.ts";
import { dockerEndpoint } from "./engine-endpoint.ts";
import type { ContainerEvent, EngineEvents, EngineStart, PullProgress } from "./engine-types.ts";

/** What an engine has told so far, in order. */
export type Told = { [Name in keyof EngineEvents]: [Name, EngineEvents[Name][0]] }[keyof EngineEvents];

/** An engine in this thread, with a label of its own, its events kept, and its containers removed at the end of the block. */
export interface TestEngine extends AsyncDisposable {
  engine: EngineConnection;
  label: string;
  told: Told[];
  progress: PullProgress[];
  containerEvents(id: string): ContainerEvent[];
  /** Creates a container that runs `argv`; not started. */
  container(argv: readonly string[], more?: Record<string, unknown>): Promise<string>;
}

export async function openTestEngine(host: string, start: Partial<EngineStart> = {}): Promise<TestEngine> {
  const label = `berth.test.${randomBytes(6).toString("hex")}`;
  const told: Told[] = [];
  const progress: PullProgress[] = [];
  const engine = await EngineConnection.open(
    { endpoint: dockerEndpoint({ DOCKER_HOST: host }), watchLabel: label, ...start },
    (name, ...[detail]) => told.push([name, detail] as Told),
    (_follow, each) => progress.push(each),
  );
  async function container(argv: readonly string[], more: Record<string, unknown> = {}): Promise<string> {
    const name = `engine-${randomBytes(6).toString("hex")}`;
    const made = await engine.create({ name, body: { Image: BUSYBOX_IMAGE, Cmd: argv, Labels: { [label]: "1" }, ...more } });
    if (made.id === undefined) throw new Error(`the name ${name} is taken`);
    return made.id;
  }
  async function dispose(): Promise<void> {
    for (const { id } of await engine.list({ labels: [label] })) await engine.remove({ id, force: true, volumes: true });
    engine.close();
  }
  const containerEvents = (id: string): ContainerEvent[] =>
    told.flatMap(([name, detail]) => (name === "container" && detail.id === id ? [detail] : []));
  return { engine, label, told, progress, containerEvents, container, [Symbol.asyncDispose]: dispose };
}

/** A unix socket that passes HTTP on to dockerd, but for the requests that `intercept` takes (returns true) for itself. */
export async function startHttpProxy(
  host: string,
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean,
): Promise<{ host: string } & AsyncDisposable> {
  const folder = await tempDir("http");
  const path = join(folder.path, "h.sock");
  const server = createServer((request, response) => {
    if (intercept(request, response)) return;
    const { method, url, headers } = request;
    const passed = httpRequest({ socketPath: host.replace("unix://", ""), method, path: url, headers, agent: false }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      response.flushHeaders();
      answer.pipe(response).on("error", () => {});
      answer.on("error", () => response.destroy());
    });
    passed.on("error", () => response.destroy());
    response.on("close", () => passed.destroy());
    request.pipe(passed);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const stop = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await folder.remove();
  };
  return { host: `unix://${path}`, [Symbol.asyncDispose]: stop };
}
