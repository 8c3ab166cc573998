import assert from "node:assert/strict";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, test } from "node:test";
import { startSidecar, waitFor } from "@berth/test-harness";
import { stateOf } from "./generate.ts";
import { SidecarLane, type SidecarLog, type SidecarSettings, type Verdict, type WatchTask } from "./index.ts";
import { SidecarReader } from "./reader.ts";

/** Ends what a test that fails leaves open: otherwise it would never end. */
const cleanups: Array<() => Promise<void>> = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const quiet: SidecarLog = { debug: () => {}, info: () => {}, warn: () => {} };

function open(url: string, more: Partial<SidecarSettings> = {}): { lane: SidecarLane; verdicts: Verdict[] } {
  const lane = SidecarLane.open({ settings: { url, timeoutMs: 1_000, watch: false, ...more }, log: quiet });
  const verdicts: Verdict[] = [];
  lane.on("verdict", (verdict) => verdicts.push(verdict));
  cleanups.push(() => lane.close());
  return { lane, verdicts };
}

function task(taskKey: string, serviceId: string, more: Partial<WatchTask> = {}): WatchTask {
  return { taskKey, serviceId, hostKey: "h1", backoffMs: 0, pollIntervalMs: 40, maxFails: 3, ageMs: 0, ...more };
}

async function serve(answer: RequestListener): Promise<{ url: string; server: Server; close: () => Promise<void> }> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  cleanups.push(close);
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/state.json`, server, close };
}

test("one reader for all tasks; affirmed failures end one of them; gaps do not count", async () => {
  const statuses: Record<string, number> = { s1: 0, s2: 2 };
  let mode = "well";
  let requests = 0;
  const { url, close } = await serve((_request, response) => {
    requests += 1;
    if (mode === "500") return response.writeHead(500).end("no state today");
    if (mode === "half") return response.writeHead(200, { "content-length": "5000" }).end('{"Servers":{');
    if (mode === "silent") return undefined;
    return response.end(stateOf({ h1: statuses }));
  });
  const { lane, verdicts } = open(url, { timeoutMs: 150 });

  await Promise.all([lane.watch(task("t1", "s1")), lane.watch(task("t2", "s2")), lane.watch(task("t3", "unknown"))]);
  await waitFor(() => verdicts.some(({ taskKey, failures }) => taskKey === "t2" && failures === 1));
  mode = "500";
  await waitFor(async () => !(await lane.status()).reachable);
  const counted = verdicts.filter(({ taskKey }) => taskKey === "t2").at(-1)?.failures;
  for (const each of ["half", "silent"]) {
    mode = each;
    const before = requests;
    await waitFor(() => requests > before + 2);
  }
  assert.equal(verdicts.filter(({ taskKey }) => taskKey === "t2").at(-1)?.failures, counted, "an answer that is no state was counted");
  mode = "well";
  const last = await waitFor(() => verdicts.find(({ fatal }) => fatal));

  assert.equal(last.taskKey, "t2");
  assert.equal(last.failures, 3);
  assert.match(last.message, /^Sidecar says UNHEALTHY since 20\d\d-/);
  const status = await waitFor(async () => {
    const now = await lane.status();
    return now.tasks.some(({ message }) => message.includes("does not know")) && now;
  });
  assert.deepEqual(status.tasks.map(({ taskKey }) => taskKey).sort(), ["t1", "t3"]);
  assert.match(status.tasks.find(({ taskKey }) => taskKey === "t3")?.message ?? "", /does not know/);
  assert.ok(verdicts.every(({ taskKey, healthy }) => healthy || taskKey === "t2"));
  await lane.close();
  await close();
});

test("nothing is judged in the backoff, and a status that recovers starts the count again", async () => {
  const statuses: Record<string, number> = { s1: 2 };
  const { url, close } = await serve((_request, response) => void response.end(stateOf({ h1: statuses })));
  const { lane, verdicts } = open(url);

  await lane.watch(task("t1", "s1", { backoffMs: 60_000 }));
  await lane.watch(task("t2", "s1", { maxFails: 1_000 }));
  await waitFor(() => verdicts.some(({ failures }) => failures >= 3));
  statuses.s1 = 0;
  await waitFor(() => verdicts.at(-1)?.healthy);
  statuses.s1 = 1;
  const again = await waitFor(() =>
    verdicts.at(-1)?.healthy === false ? verdicts.find((verdict, at) => !verdict.healthy && verdicts[at - 1]?.healthy) : undefined,
  );

  assert.equal(again.failures, 1);
  assert.equal(again.status, "TOMBSTONE");
  assert.ok(verdicts.every(({ taskKey }) => taskKey === "t2"));
  await lane.close();
  await close();
});

test("a watch stream that breaks is opened again, and stale failures are not counted", async () => {
  let streams = 0;
  let polls = 0;
  let away = false;
  const { url, server, close } = await serve((request, response) => {
    if (away) return void request.socket.destroy();
    if (request.url?.startsWith("/api/watch")) {
      streams += 1;
      return void response.write(stateOf({ h1: { s1: 2 } }));
    }
    polls += 1;
    return void response.end(stateOf({ h1: { s1: 2 } }));
  });
  const { lane, verdicts } = open(url, { watch: true });

  await lane.watch(task("t1", "s1", { maxFails: 1_000 }));
  await waitFor(() => (verdicts.at(-1)?.failures ?? 0) >= 2 && polls > 0);
  away = true;
  await waitFor(async () => !(await lane.status()).reachable);
  const counted = verdicts.at(-1)?.failures ?? 0;
  server.closeAllConnections();
  const { requests } = await lane.status();
  await waitFor(async () => (await lane.status()).requests > requests + 1);
  assert.equal(verdicts.at(-1)?.failures, counted);
  assert.match(verdicts.at(-1)?.message ?? "", /^Sidecar cannot be asked: assumed healthy/);
  away = false;
  await waitFor(() => streams > 1 && (verdicts.at(-1)?.failures ?? 0) > counted);

  await lane.close();
  await close();
});

test("a stream is followed while it says less than polling would read, and left for polling where it says more", async () => {
  let busy = false;
  let polls = 0;
  const { url, close } = await serve((request, response) => {
    if (!request.url?.startsWith("/api/watch")) {
      polls += 1;
      return void response.end(stateOf({ h1: { s1: 0 } }));
    }
    response.write(stateOf({ h1: { s1: 0 } }));
    const timer = setInterval(() => busy && response.write(stateOf({ h1: { s1: 0 } })), 2);
    return void response.on("close", () => clearInterval(timer));
  });
  const { lane, verdicts } = open(url, { watch: true });

  await lane.watch(task("t1", "s1", { pollIntervalMs: 40 }));
  await waitFor(() => verdicts.some(({ status }) => status === "ALIVE"));
  const asked = polls;
  await lane.watch(task("t2", "s1", { backoffMs: 400 }));
  await waitFor(() => verdicts.some(({ taskKey }) => taskKey === "t2"));
  assert.equal((await lane.status()).mode, "watch");
  assert.equal(polls, asked, "a quiet stream was polled beside");
  busy = true;
  await waitFor(async () => (await lane.status()).mode === "poll");
  await waitFor(() => polls > asked + 2);
  await lane.close();
  await close();
});

test("tasks that were started at different times are judged by the same polls", async () => {
  let polls = 0;
  const ids = Object.fromEntries(Array.from({ length: 20 }, (_, at) => [`s${at}`, 2]));
  const { url, close } = await serve((_request, response) => {
    polls += 1;
    response.end(stateOf({ h1: ids }));
  });
  const { lane, verdicts } = open(url);
  const least = (): number => Math.min(...Object.keys(ids).map((id) => verdicts.findLast(({ taskKey }) => taskKey === id)?.failures ?? 0));

  for (const [at, id] of Object.keys(ids).entries())
    await lane.watch(task(id, id, { pollIntervalMs: at === 0 ? 400 : 430, backoffMs: at * 50, maxFails: 1_000 }));
  await waitFor(() => least() >= 2);
  const before = { polls, least: least() };
  await waitFor(() => least() >= before.least + 6);

  assert.ok(polls - before.polls <= 7, `${polls - before.polls} polls for six verdicts on each`);
  await lane.close();
  await close();
});

for (const watch of [true, false]) {
  test(`a task of another host is found although the state stays the same (${watch ? "stream" : "poll"})`, async () => {
    const state = stateOf({ h1: { s1: 0 }, h2: { s2: 0 } });
    const { url, close } = await serve(
      (request, response) => void (request.url?.startsWith("/api/watch") ? response.write(state) : response.end(state)),
    );
    const { lane, verdicts } = open(url, { watch });
    await lane.watch(task("t1", "s1"));
    await waitFor(() => verdicts.some(({ taskKey }) => taskKey === "t1"));

    await lane.watch(task("t2", "s2", { hostKey: "h2" }));

    assert.equal((await waitFor(() => verdicts.find(({ taskKey }) => taskKey === "t2"))).status, "ALIVE");
    await lane.close();
    await close();
  });
}

test("the age of a container counts into its backoff, whatever the wall clock says", async (context) => {
  const { url, close } = await serve((_request, response) => void response.end(stateOf({ h1: { s1: 2 } })));
  const verdicts: Verdict[] = [];
  const reader = new SidecarReader(
    { url, timeoutMs: 1_000, watch: false },
    { verdict: (verdict) => verdicts.push(verdict), log: () => {} },
  );
  const real = Date.now;
  context.mock.method(Date, "now", () => real() + 3_600_000);

  reader.watch(task("young", "s1", { backoffMs: 60_000, ageMs: 1_000, maxFails: 1_000 }));
  reader.watch(task("old", "s1", { backoffMs: 60_000, ageMs: 61_000, maxFails: 1_000 }));
  await waitFor(() => verdicts.length >= 2);
  context.mock.method(Date, "now", () => real() - 3_600_000);
  const counted = verdicts.length;
  await waitFor(() => verdicts.length > counted + 2);

  assert.ok(verdicts.every(({ taskKey }) => taskKey === "old"));
  reader.close();
  await close();
});

test("counts of an earlier supervisor go on", async () => {
  const { url, close } = await serve((_request, response) => void response.end(stateOf({ h1: { s1: 2 } })));
  const { lane, verdicts } = open(url);

  await lane.watch(task("t1", "s1", { failures: 2, failingSince: 1_000_000 }));
  const first = await waitFor(() => verdicts[0]);

  assert.equal(first.fatal, true);
  assert.equal(first.since, 1_000_000);
  await lane.close();
  await close();
});

test("a drain is asked for until it is accepted, waits out its time, and is cut short", async () => {
  const asked: string[] = [];
  const { url, close } = await serve((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    response.writeHead(asked.length < 3 ? 500 : 202).end();
  });
  const { lane } = open(url);
  // The thread's own start is part of the first drain's time, and on a busy machine long.
  await lane.watch(task("warm", "abc", { backoffMs: 3_600_000 }));
  const request = { taskKey: "t", serviceId: "abc", retryCount: 5, retryDelayMs: 10, durationMs: 1_500, known: true, beganAt: Date.now() };

  assert.deepEqual(await lane.drain(request), { accepted: true, completed: true });
  assert.deepEqual(
    asked,
    Array.from({ length: 3 }, () => "POST /api/services/abc/drain"),
  );
  const cut = new AbortController();
  cleanups.push(async () => cut.abort());
  const long = lane.drain({ ...request, durationMs: 3_600_000, beganAt: Date.now() }, cut.signal);
  const side = await Promise.all(Array.from({ length: 50 }, () => lane.drain({ ...request, durationMs: 100, beganAt: Date.now() })));
  assert.ok(side.every(({ completed }) => completed));
  cut.abort();
  assert.equal((await long).completed, false);
  assert.deepEqual(await lane.drain({ ...request, requested: true, durationMs: 60_000, beganAt: Date.now() - 60_000 }), {
    accepted: true,
    completed: true,
  });
  await lane.close();
  await close();
});

test("a drain neither shortens nor lengthens when the clock is set, and is believed when nobody can know the service", async (context) => {
  let status = 202;
  const asked: number[] = [];
  const { url, close } = await serve((_request, response) => {
    asked.push(status);
    return void response.writeHead(status).end();
  });
  const { lane } = open(url);
  // The thread's own start is part of the first drain's time, and on a busy machine long.
  await lane.watch(task("warm", "abc", { backoffMs: 3_600_000 }));
  const request = { taskKey: "t", serviceId: "abc", retryCount: 5, retryDelayMs: 10, durationMs: 1_500, known: true };
  const real = Date.now;
  const cut = new AbortController();
  cleanups.push(async () => cut.abort());
  const long = lane.drain({ ...request, durationMs: 600_000, beganAt: real() }, cut.signal);
  const short = lane.drain({ ...request, beganAt: real() });
  context.mock.method(Date, "now", () => real() + 3_600_000);
  assert.deepEqual(await short, { accepted: true, completed: true });
  cut.abort();
  assert.deepEqual(await long, { accepted: true, completed: false }, "a clock that was set ended a drain");
  context.mock.restoreAll();

  status = 404;
  assert.equal((await lane.drain({ ...request, known: false, durationMs: 3_600_000, beganAt: Date.now() })).completed, true);
  assert.equal(asked.length, 3);
  status = 500;
  const insisted = await lane.drain({ ...request, known: false, beganAt: Date.now() });
  assert.match(insisted.problem ?? "", /answered 500/);
  assert.equal(asked.length, 9);
  await lane.close();
  await close();
  const { lane: lonely } = open("http://127.0.0.1:1/state.json");
  const refused = await lonely.drain({ ...request, known: false, durationMs: 3_600_000, beganAt: Date.now() });
  assert.match(refused.problem ?? "", /ECONNREFUSED/);
  await lonely.close();
});

test("a password in the URL is used and shown nowhere", async () => {
  const asked: Array<string | undefined> = [];
  const { url, close } = await serve((request, response) => {
    asked.push(request.headers.authorization);
    return void response.writeHead(500).end("not today");
  });
  const said: string[] = [];
  const tell = (fields: object, message: string): void => void said.push(JSON.stringify(fields) + message);
  const withPassword = url.replace("//", "//me:s3cr3tpassword@");
  const lane = SidecarLane.open({
    settings: { url: withPassword, timeoutMs: 1_000, watch: true },
    log: { debug: tell, info: tell, warn: tell },
  });

  assert.equal((await lane.status()).url, url);
  await lane.watch(task("t1", "s1"));
  await waitFor(() => said.length > 0);

  assert.equal(asked[0], `Basic ${Buffer.from("me:s3cr3tpassword").toString("base64")}`);
  assert.equal((await lane.status()).url, url);
  assert.doesNotMatch(said.join("\n"), /s3cr3tpassword/);
  await lane.close();
  await close();
});

test("seeds come from the agent's master, once for tasks that start together", async () => {
  let requests = 0;
  const { server, close } = await serve((request, response) => {
    requests += 1;
    assert.equal(request.headers.authorization, `Basic ${Buffer.from("p:s").toString("base64")}`);
    response.end(request.url === "/state" ? '{"master_hostname":"127.0.0.1"}' : '{"slaves":[{"hostname":"a"},{"hostname":"b"}]}');
  });
  const { port } = server.address() as AddressInfo;
  const { lane } = open("http://127.0.0.1:1/state.json");
  const request = { agentEndpoint: `127.0.0.1:${port}`, masterPort: String(port), credentials: { principal: "p", secret: "s" } };

  const all = await Promise.all(Array.from({ length: 10 }, () => lane.seeds(request)));

  assert.deepEqual(all[9], ["a", "b"]);
  assert.equal(requests, 2);
  await assert.rejects(lane.seeds({ ...request, agentEndpoint: "127.0.0.1:1" }), /127\.0\.0\.1:1\/state/);
  await lane.close();
  await close();
});

test("the real Sidecar: watch stream, unhealthy service, drain", { timeout: 90_000 }, async () => {
  let code = 200;
  const checked = createServer((_request, response) => void response.writeHead(code).end());
  await new Promise<void>((resolve) => checked.listen(0, "0.0.0.0", resolve));
  const { port } = checked.address() as AddressInfo;
  const services = [
    {
      Service: { Name: "web", Image: "web:1", ProxyMode: "http", Ports: [{ Type: "tcp", Port: port, ServicePort: 9_999, IP: "@HOST@" }] },
      Check: { Type: "HttpGet", Args: `http://@HOST@:${port}/` },
    },
  ];
  await using sidecar = await startSidecar({ services });
  const url = `${sidecar.address}/state.json`;
  const found = await waitFor(
    async () => {
      const state = (await (await fetch(url)).json()) as { Servers: Record<string, { Services: Record<string, { Status: number }> }> };
      const [hostKey, server] = Object.entries(state.Servers)[0] ?? [];
      const [serviceId, service] = Object.entries(server?.Services ?? {})[0] ?? [];
      return service?.Status === 0 && hostKey !== undefined && serviceId !== undefined && { hostKey, serviceId };
    },
    { deadline: 40_000 },
  );
  const { lane, verdicts } = open(url, { watch: true });

  await lane.watch(task("t", found.serviceId, { hostKey: found.hostKey, maxFails: 2 }));
  await waitFor(() => verdicts.some(({ status }) => status === "ALIVE"));
  code = 500;
  const last = await waitFor(() => verdicts.find(({ fatal }) => fatal), { deadline: 30_000 });

  assert.equal(last.status, "UNHEALTHY");
  assert.equal((await lane.status()).mode, "idle");
  const drained = await lane.drain({
    taskKey: "t",
    serviceId: "0123456789ab",
    retryCount: 0,
    retryDelayMs: 1,
    durationMs: 3_600_000,
    known: false,
    beganAt: Date.now(),
  });
  assert.equal(drained.completed, true, "a service that is unknown is waited for");
  assert.match(drained.problem ?? "", /does not know/);
  code = 200;
  await waitFor(async () => (await (await fetch(url)).text()).includes('"Status":0'));
  const accepted = await lane.drain({
    taskKey: "t",
    serviceId: found.serviceId,
    retryCount: 0,
    retryDelayMs: 1,
    durationMs: 2_000,
    known: true,
    beganAt: Date.now(),
  });
  assert.deepEqual(accepted, { accepted: true, completed: true });
  await lane.watch(task("u", found.serviceId, { hostKey: found.hostKey }));
  await waitFor(() => verdicts.some(({ taskKey, status }) => taskKey === "u" && status === "DRAINING"));
  assert.ok(verdicts.every(({ taskKey, fatal }) => taskKey !== "u" || !fatal));
  await lane.close();
  checked.closeAllConnections();
  await new Promise((resolve) => checked.close(resolve));
});
