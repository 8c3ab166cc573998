import assert from "node:assert/strict";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Dockerd, sharedDockerd, startSocketProxy, tempDir, waitFor } from "@berth/test-harness";
import { isTimeout, isUnreachable } from "./engine-errors.ts";
import { CONNECTION_LIMITS } from "./engine-http.ts";
import { openTestEngine, startHttpProxy } from "./engine-test-kit.ts";

describe("the engine's bounds", { timeout: 120_000 }, () => {
  let dockerd: Dockerd;
  before(async () => {
    dockerd = await sharedDockerd();
  });
  after(() => dockerd.stop());

  test("one event stream and a bounded pool, with 1 container and with 30, counted at dockerd's socket", async () => {
    await using proxy = await startSocketProxy(dockerd.host);
    await using kit = await openTestEngine(proxy.host);
    const { engine } = kit;
    await engine.watch({});
    await waitFor(() => kit.told.some(([name]) => name === "up"));
    const eventStreams = (): number => proxy.openRequests().filter((line) => line.includes("/events")).length;

    for (const count of [1, 30]) {
      proxy.resetPeak();
      const ids = await Promise.all(Array.from({ length: count }, () => kit.container(["sleep", "1000"])));
      await Promise.all(ids.map((id) => engine.start({ id })));
      await Promise.all(ids.flatMap((id) => [engine.inspect({ id }), engine.inspect({ id }), engine.inspect({ id })]));
      assert.equal(eventStreams(), 1);
      assert.ok(proxy.peak() <= CONNECTION_LIMITS.calls + 1, `${proxy.peak()} connections for ${count} containers`);

      const results = await Promise.all(ids.map((id) => engine.exec({ id, argv: ["true"], timeoutMs: 60_000 })));
      assert.ok(results.every(({ exitCode }) => exitCode === 0));
      assert.equal(eventStreams(), 1);
      assert.ok(proxy.peak() <= CONNECTION_LIMITS.calls + CONNECTION_LIMITS.execs + 1, `${proxy.peak()} connections with commands`);
    }
    assert.ok(proxy.total() < 30 + 2 * 31 + 20, `${proxy.total()} connections were made: they are not kept alive`);
  });

  test("a container that hangs dockerd's answers does not hold up the others, and its calls end by their deadline", async () => {
    const held: string[] = [];
    await using proxy = await startHttpProxy(dockerd.host, (request) => {
      if (!request.url?.includes("hanging")) return false;
      held.push(request.url);
      return true;
    });
    await using kit = await openTestEngine(proxy.host, { timeouts: { inspect: 3_000 } });
    const good = await kit.container(["sleep", "1000"]);

    const hanging = Array.from({ length: 20 }, () => kit.engine.inspect({ id: "hanging" }).then(undefined, (error) => error));
    await waitFor(() => held.length > 0);
    const answers = await Promise.all(Array.from({ length: 50 }, () => kit.engine.inspect({ id: good })));

    assert.ok(answers.every((answer) => answer?.id === good));
    assert.equal(held.length, 2);
    assert.equal((await kit.engine.statistics()).waiting, 18);
    for (const error of await Promise.all(hanging)) assert.ok(isTimeout(error) && error.recoverable, String(error));
    assert.equal((await kit.engine.statistics()).waiting, 0);
  });

  test("a call that its caller gives up ends at once and gives its place back", async () => {
    await using proxy = await startHttpProxy(dockerd.host, (request) => request.url?.includes("hanging") ?? false);
    await using kit = await openTestEngine(proxy.host, { limits: { calls: 1 } });
    const controller = new AbortController();

    const call = kit.engine.inspect({ id: "hanging" }, controller.signal);
    const queued = kit.engine.ping();
    controller.abort(new Error("not wanted any more"));

    await assert.rejects(call, /not wanted any more/);
    await queued;
  });

  test("a dockerd that accepts and never answers: every call ends by its deadline, and nothing stays open", async () => {
    await using folder = await tempDir("silent");
    const path = join(folder.path, "s.sock");
    let open = 0;
    let peak = 0;
    const server = createServer((socket) => {
      open += 1;
      peak = Math.max(peak, open);
      socket.resume();
      socket
        .on("error", () => {})
        .on("close", () => {
          open -= 1;
        });
    }).listen(path);
    const short = { ping: 200, inspect: 200, list: 200, create: 200, eventsOpen: 200, exec: 200, logs: 200, pullBegin: 200 };
    const kit = await openTestEngine(`unix://${path}`, { timeouts: short });
    const { engine } = kit;

    await engine.watch({});
    const calls: Array<Promise<unknown>> = [
      engine.ping(),
      engine.list({ labels: [] }),
      engine.create({ name: "x", body: {} }),
      engine.exec({ id: "x", argv: ["true"], timeoutMs: 1 }),
    ];
    for (let number = 0; number < 40; number++) calls.push(engine.inspect({ id: `c${number}` }));
    const results = await Promise.allSettled(calls);

    for (const result of results) {
      assert.ok(result.status === "rejected" && isTimeout(result.reason), JSON.stringify(result));
      assert.match(result.reason.message, /got no answer from unix:.* within 0\.2 s/);
    }
    await assert.rejects(engine.pull({ reference: "x", attempts: 1 }), /did not begin within/);
    const [, detail] = await waitFor(() => kit.told.find(([name]) => name === "down"));
    assert.match((detail as { reason: string }).reason, /got no answer/);
    assert.equal(kit.told.filter(([name]) => name === "down").length, 1);
    engine.close();
    await waitFor(() => open === 0);
    assert.ok(peak <= CONNECTION_LIMITS.calls + 3, `${peak} connections`);
    await new Promise((resolve) => server.close(resolve));
  });

  test("no socket, and a socket that may not be used, are named with what to do", async () => {
    await using folder = await tempDir("none");
    const kit = await openTestEngine(`unix://${join(folder.path, "absent.sock")}`);

    const error = await kit.engine.ping().then(undefined, (reason) => reason);

    assert.ok(isUnreachable(error) && error.recoverable);
    assert.match(error.message, /absent\.sock: the socket does not exist; is dockerd running\?/);
    kit.engine.close();
  });

  test("kept-alive connections that dockerd has closed in the meantime cost no call", async () => {
    await using proxy = await startSocketProxy(dockerd.host);
    await using kit = await openTestEngine(proxy.host);
    const id = await kit.container(["sleep", "1000"]);
    for (let round = 0; round < 20; round++) {
      await Promise.all(Array.from({ length: 8 }, () => kit.engine.ping()));
      proxy.cut();

      assert.equal((await kit.engine.inspect({ id }))?.id, id);
    }
  });
});
