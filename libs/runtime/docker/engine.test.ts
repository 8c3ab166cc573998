import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { TaskFailure } from "@berth/mesos/task-failure";
import { BUSYBOX_IMAGE, type Dockerd, freePort, sharedDockerd } from "@berth/test-harness";
import { DockerEngine } from "./engine.ts";
import { dockerEndpoint } from "./engine-endpoint.ts";
import { isNotFound, isTimeout } from "./engine-errors.ts";
import { startHttpProxy } from "./engine-test-kit.ts";
import type { EngineStart, PullProgress } from "./engine-types.ts";

describe("the engine through its thread", { timeout: 60_000 }, () => {
  let dockerd: Dockerd;
  before(async () => {
    dockerd = await sharedDockerd();
  });
  after(() => dockerd.stop());

  function open(host: string, start: Partial<EngineStart> = {}): DockerEngine {
    return new DockerEngine({ endpoint: dockerEndpoint({ DOCKER_HOST: host }), watchLabel: "berth.test.facade", log: console, ...start });
  }

  test("answers, events and health come through", async () => {
    const engine = open(dockerd.host);
    try {
      assert.equal(engine.health.up, false);
      const up = once(engine, "up");
      await engine.watch();
      await up;
      assert.equal(engine.health.up, true);
      assert.match((await engine.version()).apiVersion, /^1\.\d+$/);
      assert.ok((await engine.info()).cpus > 0);

      const name = `engine-facade-${process.pid}`;
      const made = await engine.create({ name, body: { Image: BUSYBOX_IMAGE, Cmd: ["echo", "hi"], Labels: { "berth.test.facade": "1" } } });
      const died = new Promise<number | undefined>((resolve) => {
        engine.on("container", ({ action, exitCode }) => action === "die" && resolve(exitCode));
      });
      await engine.start(made.id ?? "");
      assert.equal(await died, 0);
      await engine.rename(name, `${name}-old`);
      assert.deepEqual(
        (await engine.list(["berth.test.facade"])).map((each) => each.name),
        [`${name}-old`],
      );
      const { chunks } = await engine.logs({ id: made.id ?? "" });
      assert.equal(Buffer.from(chunks[0]?.data ?? []).toString(), "hi\n");
      assert.equal(await engine.remove(`${name}-old`), "removed");

      const { connections, heapUsedBytes, eventStreamsOpened } = await engine.statistics();
      assert.equal(connections.events, 1);
      assert.equal(eventStreamsOpened, 1);
      assert.ok(heapUsedBytes > 0);
    } finally {
      await engine.close();
    }
  });

  test("errors keep what a caller branches on, and a caller can give up", async () => {
    await using proxy = await startHttpProxy(dockerd.host, (request) => request.url?.includes("hanging") ?? false);
    const engine = open(proxy.host, { timeouts: { signal: 200 } });
    try {
      await assert.rejects(engine.start("engine-absent"), isNotFound);
      await assert.rejects(engine.signal("hanging", "SIGTERM"), isTimeout);
      const controller = new AbortController();
      const inspected = engine.inspect("hanging", controller.signal);
      controller.abort(new Error("the task was killed"));
      await assert.rejects(inspected, /the task was killed|aborted/);

      const progress: PullProgress[] = [];
      const reference = `127.0.0.1:${await freePort()}/x:1`;
      const failure = await engine.pull({ reference, attempts: 2 }, (each) => progress.push(each)).then(undefined, (error) => error);
      assert.ok(TaskFailure.is(failure));
      assert.equal(failure.recoverable, true);
      assert.equal(failure.reason, "REASON_CONTAINER_LAUNCH_FAILED");
      assert.equal(progress.length, 1);
      assert.match(progress[0]?.message ?? "", /attempt 1 of 2 failed/);
    } finally {
      await engine.close();
    }
  });
});
