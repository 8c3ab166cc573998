import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { TaskFailure } from "@berth/mesos/task-failure";
import { BUSYBOX_IMAGE, type Dockerd, sharedDockerd, startSocketProxy, tempDir, waitFor } from "@berth/test-harness";
import { isConflict, isDockerError, isNotFound } from "./engine-errors.ts";
import { openTestEngine } from "./engine-test-kit.ts";

const FOREVER = ["sleep", "1000"];

describe("the engine with a real dockerd", { timeout: 120_000 }, () => {
  let dockerd: Dockerd;
  before(async () => {
    dockerd = await sharedDockerd();
  });
  after(() => dockerd.stop());

  test("a container's life: created, started, ended with its exit code, its last logs read, removed", async () => {
    await using kit = await openTestEngine(dockerd.host);
    const { engine } = kit;
    await engine.watch({});
    const id = await kit.container(["sh", "-c", "echo out; echo err >&2; exit 7"], { Labels: { [kit.label]: "1", more: "two" } });
    assert.equal((await engine.inspect({ id }))?.state.state, "created");

    assert.equal(await engine.start({ id }), "started");
    const die = await waitFor(() => kit.containerEvents(id).find(({ action }) => action === "die"));

    assert.equal(die.exitCode, 7);
    assert.ok(die.timeNano > 1_600_000_000_000_000_000n);
    const summary = await engine.inspect({ id });
    assert.ok(summary?.state.state === "exited");
    assert.equal(summary.state.exit.exitCode, 7);
    assert.equal(summary.state.exit.oomKilled, false);
    assert.ok(summary.state.exit.finishedAt >= (summary.state.exit.startedAt ?? Number.POSITIVE_INFINITY));
    assert.equal(summary.image, BUSYBOX_IMAGE);
    assert.deepEqual(summary.labels, { [kit.label]: "1", more: "two" });
    assert.equal(summary.logDriver, "json-file");
    assert.match(summary.logPath, new RegExp(`${id}-json.log$`));
    const { chunks } = await engine.logs({ id });
    const lines = chunks.map(({ stream, data }) => `${stream}: ${Buffer.from(data)}`).sort();
    assert.deepEqual(lines, ["stderr: err\n", "stdout: out\n"]);
    assert.equal(await engine.remove({ id, volumes: true }), "removed");
    assert.equal(await engine.inspect({ id }), undefined);
    await waitFor(() => kit.containerEvents(id).some(({ action }) => action === "destroy"));
  });

  test("every step may be repeated: dockerd's 304, 404 and 409 are answers", async () => {
    await using kit = await openTestEngine(dockerd.host);
    const { engine } = kit;
    const id = await kit.container(FOREVER);
    const name = (await engine.inspect({ id }))?.name ?? "";

    assert.equal(await engine.signal({ id, signal: "SIGTERM" }), "notRunning");
    assert.equal(await engine.start({ id }), "started");
    assert.equal(await engine.start({ id }), "alreadyRunning");
    const again = await engine.create({ name, body: { Image: BUSYBOX_IMAGE } });
    assert.equal(again.conflict?.id, id);
    assert.equal(again.conflict?.labels[kit.label], "1");
    assert.equal(await engine.signal({ id, signal: "SIGKILL" }), "sent");
    await waitFor(async () => (await engine.inspect({ id }))?.state.state === "exited");
    assert.equal(await engine.signal({ id, signal: "SIGKILL" }), "notRunning");
    assert.equal(await engine.remove({ id, force: true }), "removed");
    assert.equal(await engine.remove({ id, force: true }), "absent");
    assert.equal(await engine.signal({ id, signal: "SIGKILL" }), "absent");
    await assert.rejects(engine.start({ id }), isNotFound);
  });

  test("a running container tells its pid, addresses and the ports that dockerd chose", async () => {
    await using kit = await openTestEngine(dockerd.host);
    const id = await kit.container(FOREVER, {
      ExposedPorts: { "80/tcp": {} },
      HostConfig: { PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "" }] } },
    });

    await kit.engine.start({ id });
    const summary = await kit.engine.inspect({ id });

    assert.ok(summary?.state.state === "running");
    assert.ok(summary.state.pid > 1);
    assert.deepEqual(
      summary.state.addresses.map(({ network, protocol }) => ({ network, protocol })),
      [{ network: "bridge", protocol: "IPv4" }],
    );
    assert.match(summary.state.addresses[0]?.address ?? "", /^\d+\.\d+\.\d+\.\d+$/);
    assert.equal(summary.ports[0]?.containerPort, 80);
    assert.ok((summary.ports[0]?.hostPort ?? 0) > 0);
  });

  test("a container that runs out of memory is told from one that was killed", async () => {
    await using kit = await openTestEngine(dockerd.host);
    await kit.engine.watch({});
    const id = await kit.container(["tail", "/dev/zero"], { HostConfig: { Memory: 16 * 1024 * 1024, MemorySwap: 16 * 1024 * 1024 } });

    await kit.engine.start({ id });
    await waitFor(() => kit.containerEvents(id).some(({ action }) => action === "die"));
    // The kernel tells dockerd of the OOM kill apart from the exit, and at times a moment later.
    await waitFor(() => kit.containerEvents(id).some(({ action }) => action === "oom"));

    const state = (await kit.engine.inspect({ id }))?.state;
    assert.ok(state?.state === "exited");
    assert.equal(state.exit.oomKilled, true);
    assert.equal(state.exit.exitCode, 137);
  });

  test("containers are listed by all of the labels asked for", async () => {
    await using kit = await openTestEngine(dockerd.host);
    const one = await kit.container(FOREVER, { Labels: { [kit.label]: "a", role: "x" } });
    await kit.container(FOREVER, { Labels: { [kit.label]: "a", role: "y" } });

    assert.equal((await kit.engine.list({ labels: [kit.label] })).length, 2);
    const found = await kit.engine.list({ labels: [`${kit.label}=a`, "role=x"] });

    assert.deepEqual(
      found.map(({ id, status }) => ({ id, status })),
      [{ id: one, status: "created" }],
    );
    assert.match(found[0]?.name ?? "", /^engine-/);
  });

  test("what keeps a container from being created or started is said in words for its owner", async () => {
    await using kit = await openTestEngine(dockerd.host);
    await using folder = await tempDir("start");
    const { engine } = kit;
    const listener = createServer().listen(0, "127.0.0.1").unref();
    await new Promise((resolve) => listener.once("listening", resolve));
    const { port } = listener.address() as { port: number };
    await writeFile(join(folder.path, "noexec"), "#!/bin/sh\n");
    const mounted = { HostConfig: { Binds: [`${folder.path}:/m`] } };
    const cases: Array<[name: string, argv: string[], body: Record<string, unknown>, expected: RegExp]> = [
      [
        "port taken",
        FOREVER,
        { ExposedPorts: { "80/tcp": {} }, HostConfig: { PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: String(port) }] } } },
        /host port is already taken.*ss -ltnp/s,
      ],
      ["missing command", ["/no/such"], {}, /command does not exist in the image/],
      ["missing command in PATH", ["nosuch"], {}, /command does not exist in the image/],
      ["not executable", ["/m/noexec"], mounted, /command cannot be executed/],
      ["missing user", FOREVER, { User: "nobody-here" }, /user or group does not exist/],
      [
        "missing mount source",
        FOREVER,
        { HostConfig: { Mounts: [{ Type: "bind", Source: join(folder.path, "absent"), Target: "/x" }] } },
        /volume cannot be mounted/,
      ],
      ["file over a directory", FOREVER, { HostConfig: { Binds: [`${join(folder.path, "noexec")}:/tmp`] } }, /volume cannot be mounted/],
      ["missing network", FOREVER, { HostConfig: { NetworkMode: "no-such-net" } }, /network does not exist/],
      [
        "missing device",
        FOREVER,
        { HostConfig: { Devices: [{ PathOnHost: "/dev/nosuch", PathInContainer: "/dev/x" }] } },
        /device is not there/,
      ],
      [
        "unknown log option",
        FOREVER,
        { HostConfig: { LogConfig: { Type: "json-file", Config: { nosuch: "1" } } } },
        /log driver or one of its options/,
      ],
    ];
    for (const [name, argv, body, expected] of cases) {
      const error = await kit.container(argv, body).then((id) => engine.start({ id }).then(() => undefined, asError), asError);

      assert.ok(TaskFailure.is(error), `${name}: ${error}`);
      assert.match(error.message, expected, name);
      assert.match(error.message, /dockerd said: /, name);
      assert.equal(error.recoverable, false, name);
    }
    listener.close();
  });

  test("an image that is not there is told from a container that is not there", async () => {
    await using kit = await openTestEngine(dockerd.host);

    await assert.rejects(kit.engine.create({ name: "engine-noimage", body: { Image: "berth/nosuch:1" } }), isNotFound);
    assert.equal(await kit.engine.imagePresent({ reference: "berth/nosuch:1" }), undefined);
    assert.match((await kit.engine.imagePresent({ reference: BUSYBOX_IMAGE })) ?? "", /^sha256:/);
    // Without a tag this must be `:latest`, and not be taken for the beginning of an image's id.
    const id = (await kit.engine.imagePresent({ reference: BUSYBOX_IMAGE })) ?? "";
    assert.equal(await kit.engine.imagePresent({ reference: id.slice("sha256:".length, 20) }), undefined);
  });

  test("a name that would lead the request to another address is refused by dockerd, not followed", async () => {
    await using kit = await openTestEngine(dockerd.host);

    await assert.rejects(kit.engine.inspect({ id: "../info?x=" }), isDockerError);
  });

  describe("commands in containers", () => {
    test("give their exit code and the end of their output", async () => {
      await using kit = await openTestEngine(dockerd.host);
      const id = await running(kit);
      const argv = ["sh", "-c", "echo first; echo $GREETING >&2; id -u; exit 3"];

      const result = await kit.engine.exec({ id, argv, environment: { GREETING: "hello" }, user: "12", timeoutMs: 20_000 });
      const cut = await kit.engine.exec({ id, argv: ["sh", "-c", "seq 1 100000"], timeoutMs: 20_000, maxOutputBytes: 14 });

      assert.equal(result.exitCode, 3);
      assert.equal(result.timedOut, false);
      assert.deepEqual(result.output.split("\n").sort(), ["", "12", "first", "hello"]);
      assert.equal(cut.output, "\n99999\n100000\n");
    });

    test("are killed at their time limit with all their children", async () => {
      await using kit = await openTestEngine(dockerd.host);
      const id = await running(kit);

      const result = await kit.engine.exec({ id, argv: ["sh", "-c", "echo begun; sleep 4321 & sleep 4321"], timeoutMs: 300 });

      assert.deepEqual(result, { output: "begun\n", timedOut: true, killed: true });
      await waitFor(async () => !(await processes(kit, id)).includes("4321"));
    });

    test("are killed from inside where dockerd's pids are not this host's", async () => {
      await using proxy = await startSocketProxy(dockerd.host);
      await using kit = await openTestEngine(proxy.tcpHost);
      const id = await running(kit);

      const result = await kit.engine.exec({ id, argv: ["sh", "-c", "sleep 4321 & sleep 4321"], timeoutMs: 300 });

      assert.equal(result.killed, true);
      await waitFor(async () => !(await processes(kit, id)).includes("4321"));
    });

    test("end when their process ends, though a child holds their output open", async () => {
      await using kit = await openTestEngine(dockerd.host);
      await kit.engine.watch({});
      await waitFor(() => kit.told.some(([name]) => name === "up"));
      const id = await running(kit);

      const result = await kit.engine.exec({ id, argv: ["sh", "-c", "echo done; sleep 30 & exit 4"], timeoutMs: 25_000 });

      assert.deepEqual(result, { exitCode: 4, output: "done\n", timedOut: false });
    });

    test("that do not exist give an exit code, a container that does not run an error", async () => {
      await using kit = await openTestEngine(dockerd.host);
      const id = await running(kit);
      const stopped = await kit.container(FOREVER);

      const missing = await kit.engine.exec({ id, argv: ["nosuch"], timeoutMs: 20_000 });

      assert.ok(missing.exitCode === 126 || missing.exitCode === 127);
      assert.match(missing.output, /executable file not found/);
      await assert.rejects(kit.engine.exec({ id: stopped, argv: ["true"], timeoutMs: 1_000 }), isConflict);
      await assert.rejects(kit.engine.exec({ id: "engine-absent", argv: ["true"], timeoutMs: 1_000 }), isNotFound);
    });
  });

  test("logs keep the end within their bound, and a terminal's output comes raw", async () => {
    await using kit = await openTestEngine(dockerd.host);
    const many = await kit.container(["sh", "-c", "seq 1 20000"]);
    const terminal = await kit.container(["sh", "-c", "echo from a terminal"], { Tty: true });
    for (const id of [many, terminal]) await kit.engine.start({ id });
    for (const id of [many, terminal]) await waitFor(async () => (await kit.engine.inspect({ id }))?.state.state === "exited");

    const bounded = await kit.engine.logs({ id: many, maxBytes: 1000 });
    const lastTwo = await kit.engine.logs({ id: many, tail: 2 });
    const raw = await kit.engine.logs({ id: terminal });

    const text = bounded.chunks.map(({ data }) => Buffer.from(data).toString()).join("");
    assert.ok(text.length <= 1000 && text.endsWith("19999\n20000\n"), text.slice(-30));
    assert.equal(text.length + bounded.dropped, Array.from({ length: 20_000 }, (_, i) => `${i + 1}\n`).join("").length);
    assert.equal(lastTwo.chunks.map(({ data }) => Buffer.from(data).toString()).join(""), "19999\n20000\n");
    assert.equal(raw.chunks.map(({ data }) => Buffer.from(data).toString()).join(""), "from a terminal\r\n");
  });
});

type Kit = Awaited<ReturnType<typeof openTestEngine>>;

async function running(kit: Kit): Promise<string> {
  const id = await kit.container(FOREVER);
  await kit.engine.start({ id });
  return id;
}

async function processes(kit: Kit, id: string): Promise<string> {
  return (await kit.engine.exec({ id, argv: ["ps"], timeoutMs: 20_000 })).output;
}

function asError(error: unknown): unknown {
  return error;
}
