import assert from "node:assert/strict";
import { pipeline, Readable } from "node:stream";
import { describe, test } from "node:test";
import { BUSYBOX_IMAGE, DockerApi, type Dockerd, sharedDockerd, startDockerd, startSocketProxy, waitFor } from "@berth/test-harness";
import { DockerEngine } from "./engine.ts";
import { dockerEndpoint } from "./engine-endpoint.ts";
import { isDockerError, isUnreachable } from "./engine-errors.ts";
import { openTestEngine, startHttpProxy, type TestEngine } from "./engine-test-kit.ts";
import type { ContainerEvent } from "./engine-types.ts";

const EXITS_AFTER = (seconds: number, code: number): string[] => [
  "sh",
  "-c",
  `trap 'exit 9' TERM; for i in $(seq ${seconds * 10}); do sleep 0.1; done; exit ${code}`,
];

describe("the engine when dockerd fails", { timeout: 240_000 }, () => {
  test("restarts and kills with live-restore: the stream comes back, exits in between are seen, tasks run on", async () => {
    await using dockerd = await startDockerd({ liveRestore: true });
    await using kit = await watching(dockerd);
    const short = await started(kit, EXITS_AFTER(2, 5));
    const long = await started(kit, ["sleep", "1000"]);
    const pid = await pidOf(kit, long);

    await dockerd.kill();
    await waitFor(() => last(kit, "up", "down") === "down");
    const refused = await kit.engine.inspect({ id: long }).then(undefined, (error) => error);
    assert.ok(isUnreachable(refused), String(refused));
    await waitFor(() => !alive(pidsOf(kit).get(short) ?? 0));
    await dockerd.start();
    await waitFor(() => last(kit, "up", "down") === "up" && kit.told.some(([name]) => name === "resync"));

    const ended = await waitFor(async () => {
      const state = (await kit.engine.inspect({ id: short }))?.state;
      return state?.state === "exited" ? state : undefined;
    });
    assert.equal(ended.exit.exitCode, 5);
    assert.equal(await pidOf(kit, long), pid);

    const before = count(kit, "resync");
    await dockerd.restart();
    await waitFor(() => count(kit, "resync") > before);
    assert.equal(await pidOf(kit, long), pid);
    await kit.engine.signal({ id: long, signal: "SIGKILL" });
    const die = await waitFor(() => kit.containerEvents(long).find(({ action }) => action === "die"));
    assert.equal(die.exitCode, 137);
    assertAlternating(kit);
  });

  test("restarts and kills without live-restore: the tasks have ended, and inspect tells how", async () => {
    await using dockerd = await startDockerd();
    await using kit = await watching(dockerd);
    const stopped = await started(kit, EXITS_AFTER(1000, 0));

    const pending = kit.engine.exec({ id: stopped, argv: ["sleep", "1000"], timeoutMs: 600_000 }).then(undefined, (error) => error);
    const before = count(kit, "resync");
    await dockerd.restart();
    await waitFor(() => count(kit, "resync") > before);

    const first = (await kit.engine.inspect({ id: stopped }))?.state;
    assert.ok(first?.state === "exited", JSON.stringify(first));
    assert.equal(first.exit.exitCode, 9);
    // The command ended with its container or was lost with dockerd; either way its caller hears of it.
    const outcome = await pending;
    assert.ok(isDockerError(outcome) || typeof outcome.exitCode === "number", String(outcome));

    const killed = await started(kit, ["sleep", "1000"]);
    const again = count(kit, "resync");
    await dockerd.kill();
    await dockerd.start();
    await waitFor(() => count(kit, "resync") > again);
    const second = (await kit.engine.inspect({ id: killed }))?.state;
    assert.ok(second?.state === "exited", JSON.stringify(second));
    assert.notEqual(second.exit.exitCode, 0);
    assertAlternating(kit);
  });
});

describe("the engine when its connection or its thread fails", { timeout: 120_000 }, () => {
  test("a dockerd that hangs under an open event stream is noticed, and so is its coming back", async () => {
    await using dockerd = await sharedDockerd();
    await using proxy = await startSocketProxy(dockerd.host);
    await using kit = await openTestEngine(proxy.host, { timeouts: { ping: 400, pingEvery: 200, eventsOpen: 400 } });
    await kit.engine.watch({});
    await waitFor(() => last(kit, "up", "down") === "up");
    const id = await started(kit, ["sleep", "1000"]);

    proxy.freeze(true);
    await waitFor(() => last(kit, "up", "down") === "down");
    await new DockerApi(dockerd.host).call("POST", `/containers/${id}/kill`);
    proxy.freeze(false);
    await waitFor(() => last(kit, "up", "down") === "up" && count(kit, "resync") > 0);

    const die = await waitFor(() => kit.containerEvents(id).find(({ action }) => action === "die"));
    assert.equal(die.exitCode, 137);
    assertAlternating(kit);
  });

  test("an event stream that is cut again and again tells every event once, in order", async () => {
    await using dockerd = await sharedDockerd();
    await using proxy = await startSocketProxy(dockerd.host);
    await using kit = await openTestEngine(proxy.host);
    await kit.engine.watch({});
    await waitFor(() => last(kit, "up", "down") === "up");
    const api = new DockerApi(dockerd.host);
    const ids: string[] = [];
    for (let number = 0; number < 12; number++) {
      const { Id } = await api.call<{ Id: string }>("POST", "/containers/create", {
        Image: BUSYBOX_IMAGE,
        Cmd: ["sh", "-c", `exit ${number}`],
        Labels: { [kit.label]: "1" },
      });
      ids.push(Id);
      if (number % 2 === 0) proxy.cut();
      await api.call("POST", `/containers/${Id}/start`);
      if (number % 3 === 0) proxy.cut();
      await api.call("POST", `/containers/${Id}/wait`);
    }

    await waitFor(() => ids.every((id) => kit.containerEvents(id).some(({ action }) => action === "die")));
    for (const [number, id] of ids.entries()) {
      const events = kit.containerEvents(id).map(({ action, exitCode }) => `${action} ${exitCode ?? ""}`);
      assert.deepEqual(events.filter((each) => /start|die/.test(each)).sort(), [`die ${number}`, "start "]);
    }
    assert.ok(count(kit, "resync") > 0);
  });

  test("a thread that dies: its calls reject, a new one takes over, and the events of the time between arrive once", async () => {
    await using dockerd = await sharedDockerd();
    // Logs without an end, read without a bound: the thread's heap runs over, as by a real mistake of ours.
    await using proxy = await startHttpProxy(dockerd.host, (request, response) => {
      if (!request.url?.includes("/logs?")) return false;
      const frames = Buffer.concat(Array.from({ length: 5_000 }, () => Buffer.from([1, 0, 0, 0, 0, 0, 0, 2, 120, 10])));
      pipeline(
        Readable.from(
          (function* () {
            for (;;) yield frames;
          })(),
        ),
        response,
        () => {},
      );
      return true;
    });
    await using kit = await openTestEngine(dockerd.host);
    const warnings: string[] = [];
    const engine = new DockerEngine({
      endpoint: dockerEndpoint({ DOCKER_HOST: proxy.host }),
      watchLabel: kit.label,
      log: { warn: (_fields, message) => warnings.push(message) },
      maxHeapMb: 40,
    });
    const events: ContainerEvent[] = [];
    const told: string[] = [];
    engine.on("container", (event) => events.push(event));
    for (const name of ["up", "down", "resync"] as const) engine.on(name, () => told.push(name));
    try {
      await engine.watch();
      const id = await started(kit, ["sh", "-c", "trap 'exit 6' TERM; while :; do sleep 0.1; done"]);
      await waitFor(() => events.some(({ action }) => action === "start"));
      assert.equal(engine.health.up, true);

      const waiting = engine.exec({ id, argv: ["sleep", "100"], timeoutMs: 100_000 });
      const lost = assert.rejects(waiting, { code: "BERTH_LANE_LOST" });
      const bomb = engine.logs({ id, maxBytes: Number.MAX_SAFE_INTEGER }).then(undefined, (error) => error);
      assert.equal((await bomb).code, "BERTH_LANE_LOST");
      await lost;
      await kit.engine.signal({ id, signal: "SIGTERM" });
      const die = await waitFor(() => events.find(({ action }) => action === "die"));

      assert.equal(die.exitCode, 6);
      await waitFor(() => told.includes("resync"));
      assert.equal(engine.restarts, 1);
      assert.equal(warnings.length, 1);
      assert.equal((await engine.inspect(id))?.exitCode, 6);
      const keys = events.map(({ action, timeNano }) => `${timeNano} ${action}`);
      assert.equal(new Set(keys).size, keys.length, `an event was told twice: ${keys}`);
      assert.equal((await engine.statistics()).connections.events, 1);
    } finally {
      await engine.close();
    }
    await assert.rejects(engine.ping(), { code: "BERTH_LANE_LOST" });
  });
});

const PIDS = new WeakMap<TestEngine, Map<string, number>>();

function pidsOf(kit: TestEngine): Map<string, number> {
  const pids = PIDS.get(kit) ?? new Map<string, number>();
  PIDS.set(kit, pids);
  return pids;
}

async function watching(dockerd: Dockerd): Promise<TestEngine> {
  const kit = await openTestEngine(dockerd.host);
  await kit.engine.watch({});
  await waitFor(() => last(kit, "up", "down") === "up");
  return kit;
}

async function started(kit: TestEngine, argv: string[]): Promise<string> {
  const id = await kit.container(argv);
  await kit.engine.start({ id });
  pidsOf(kit).set(id, (await pidOf(kit, id)) ?? 0);
  return id;
}

async function pidOf(kit: TestEngine, id: string): Promise<number | undefined> {
  const state = (await kit.engine.inspect({ id }))?.state;
  return state?.state === "running" ? state.pid : undefined;
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function last(kit: TestEngine, ...names: string[]): string | undefined {
  return kit.told.findLast(([name]) => names.includes(name))?.[0];
}

function count(kit: TestEngine, wanted: string): number {
  return kit.told.filter(([name]) => name === wanted).length;
}

function assertAlternating(kit: TestEngine): void {
  const health = kit.told.map(([name]) => name).filter((name) => name === "up" || name === "down");
  for (const [index, name] of health.entries()) assert.equal(name, index % 2 === 0 ? "up" : "down", health.join(" "));
}
