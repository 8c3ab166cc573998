import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { BUSYBOX_IMAGE, type Dockerd, startDockerd, startSocketProxy, tempDir, waitFor } from "@berth/test-harness";
import { ApiSource } from "./api-source.ts";
import { LogLane, type LogPosition, type LogSource } from "./index.ts";

/** BERTH_TEST_FULL=1: the size that is promised; else a tenth of it. */
const FULL = process.env.BERTH_TEST_FULL === "1";
const CONTAINERS = FULL ? 30 : 4;
const LINES = FULL ? 20_000 : 6_000;

const quiet = { debug: () => {}, info: () => {}, warn: () => {} };

function lane(dockerd: Dockerd, positions: Map<string, LogPosition>): LogLane {
  const opened = LogLane.open({ docker: { url: dockerd.host, socketPath: dockerd.api.socketPath }, log: quiet });
  opened.on("positions", (batch) => {
    for (const { taskKey, position } of batch) positions.set(taskKey, position);
  });
  return opened;
}

async function start(dockerd: Dockerd, script: string, logConfig: object): Promise<{ id: string; logPath: string }> {
  const body = { Image: BUSYBOX_IMAGE, Cmd: ["sh", "-c", script], HostConfig: { LogConfig: logConfig, NetworkMode: "none" } };
  const { Id } = await dockerd.api.call<{ Id: string }>("POST", "/containers/create", body);
  await dockerd.api.call("POST", `/containers/${Id}/start`);
  const { LogPath } = await dockerd.api.call<{ LogPath: string }>("GET", `/containers/${Id}/json`);
  return { id: Id, logPath: LogPath };
}

const exited = async (dockerd: Dockerd, id: string): Promise<boolean> =>
  !(await dockerd.api.call<{ State: { Running: boolean } }>("GET", `/containers/${id}/json`)).State.Running;

test("every number arrives, over rotation, a new dockerd and new log threads", { timeout: FULL ? 900_000 : 180_000 }, async () => {
  await using dockerd = await startDockerd({ liveRestore: true });
  await using folder = await tempDir("lr");
  const logConfig = { Type: "json-file", Config: { "max-size": "1m", "max-file": "10" } };
  const padding = "x".repeat(60);
  // In bursts, so that the restarts meet containers that write.
  const script = `i=0; while [ $i -lt ${LINES} ]; do echo "n $i ${padding}"; i=$((i+1)); [ $((i % ${LINES / 10})) = 0 ] && sleep 0.7; done`;
  const positions = new Map<string, LogPosition>();
  let logs = lane(dockerd, positions);
  const containers: Array<{ id: string; logPath: string; source: LogSource; taskKey: string; sandbox: ReturnType<typeof sandboxOf> }> = [];
  for (let index = 0; index < CONTAINERS; index++) {
    const container = await start(dockerd, script, logConfig);
    // One in four goes through dockerd's API.
    const source: LogSource = index % 4 === 3 ? { kind: "api", containerId: container.id } : { kind: "json-file", path: container.logPath };
    containers.push({ ...container, source, taskKey: `t${index}`, sandbox: sandboxOf(folder.path, `t${index}`) });
  }
  const follow = async (): Promise<void> => {
    for (const { taskKey, source, sandbox } of containers) {
      const position = positions.get(taskKey);
      await logs.follow({
        taskKey,
        source,
        sandbox,
        sinks: [{ type: "sandbox" }],
        fields: {},
        hostname: "h",
        ...(position === undefined ? {} : { position }),
      });
    }
  };
  const progress = (): number => containers.reduce((sum, { sandbox }) => sum + numbersOf(sandbox.stdoutPath).length, 0);
  const total = CONTAINERS * LINES;

  await follow();
  await waitFor(() => progress() > total / 10);
  await dockerd.restart();
  await waitFor(() => progress() > total / 3, { deadline: 60_000 });
  await logs.close();
  logs = lane(dockerd, positions);
  await follow();
  for (const { id } of containers) await waitFor(() => exited(dockerd, id), { deadline: 300_000, interval: 100 });
  for (const { taskKey } of containers) await logs.stop({ taskKey, drain: true, deadline: Date.now() + 60_000 });

  for (const { sandbox, taskKey, logPath } of containers) {
    const numbers = numbersOf(sandbox.stdoutPath);
    const came = new Set(numbers);
    // A dockerd that is restarted loses lines itself, before they are in its file.
    const had = globSync(`${logPath}*`).flatMap((path) => [...readFileSync(path, "latin1").matchAll(/"n (\d+) /g)]);
    assert.deepEqual(
      had.map((match) => Number(match[1])).filter((number) => !came.has(number)),
      [],
      `${taskKey} lost lines`,
    );
    const twice = numbers.length - came.size;
    // One unconfirmed batch for each interruption.
    assert.ok(twice * 70 <= 2 * 64 * 1024, `${taskKey} got ${twice} lines twice`);
  }
  await logs.close();
});

test("70 KB lines, binary, 1,000,000 empty lines, by file, by the local driver's file and by the API", {
  timeout: 240_000,
}, async (context) => {
  await using dockerd = await startDockerd();
  await using folder = await tempDir("lr");
  const logs = lane(dockerd, new Map());
  context.after(() => logs.close());
  const long = 'head -c 70000 /dev/zero | tr "\\0" y; echo; ';
  // dockerd takes as long for an empty line as for a full one: the API's share is smaller.
  const emptyOf = (name: string): number => (name.endsWith("api") ? 100_000 : 1_000_000);
  const rest = (empty: number): string => `printf "\\377\\376\\001bin\\n"; yes "" | head -n ${empty}; echo "an error" >&2; printf "no end"`;
  const names = ["json", "api", "local", "localapi"] as const;
  for (const name of names) {
    const driver = name.startsWith("local") ? "local" : "json-file";
    const { id, logPath } = await start(dockerd, name === "localapi" ? rest(emptyOf(name)) : long + rest(emptyOf(name)), {
      Type: driver,
      Config: {},
    });
    const local = join(logPath === "" ? await rootOf(dockerd) : "", "containers", id, "local-logs/container.log");
    const source: LogSource =
      name === "json"
        ? { kind: "json-file", path: logPath }
        : name === "local"
          ? { kind: "local-file", path: local }
          : { kind: "api", containerId: id };
    await logs.follow({
      taskKey: name,
      source,
      sandbox: sandboxOf(folder.path, name),
      sinks: [{ type: "sandbox" }],
      fields: {},
      hostname: "h",
    });
    await waitFor(() => exited(dockerd, id), { deadline: 120_000 });
    const statistics = await logs.stop({ taskKey: name, drain: true, deadline: Date.now() + 30_000 });
    assert.equal(statistics?.malformed, 0);
    if (name !== "api") continue;
    // Read once and to its end, though dockerd's answer comes in many pieces.
    let count = 0;
    for await (const lines of logs.read({ source })) count += lines.length;
    assert.equal(count, 1 + 1 + emptyOf(name) + 1 + 1);
    for await (const lines of logs.read({ source, tail: 1, follow: true, streams: ["stderr"] })) {
      assert.deepEqual(
        lines.map(({ bytes }) => Buffer.from(bytes).toString()),
        ["an error"],
      );
      break;
    }
  }
  await logs.close();

  for (const name of names) {
    const { stdoutPath, stderrPath } = sandboxOf(folder.path, name);
    const out = readFileSync(stdoutPath);
    // json-file itself replaces what is no UTF-8.
    const binary = name.startsWith("local") ? Buffer.from([0xff, 0xfe, 1]) : Buffer.from("\ufffd\ufffd\u0001");
    // dockerd 20.10 itself loses the line feed of a long line when it reads the local driver's file for its API.
    const first = name === "localapi" ? "" : `${"y".repeat(70_000)}\n`;
    const expected = Buffer.concat([Buffer.from(first), binary, Buffer.from(`bin\n${"\n".repeat(emptyOf(name))}no end\n`)]);
    assert.ok(out.equals(expected), `${name}: ${out.length} bytes instead of ${expected.length}`);
    assert.equal(readFileSync(stderrPath, "utf8"), "an error\n");
  }
});

test("what Docker deletes before it can be read is a counted gap with its reason, and what is left arrives", {
  timeout: 120_000,
}, async (context) => {
  await using dockerd = await startDockerd();
  await using folder = await tempDir("lr");
  // With max-file=1 Docker cuts the file off in place; with 2 it deletes. Nobody reads meanwhile, as where a receiver is too slow.
  for (const files of ["1", "2"]) {
    const script = `trap 'go=1' USR1; echo "n first"; while [ -z "$go" ]; do sleep 0.1; done; i=0; while [ $i -lt 3000 ]; do echo "n $i "; i=$((i+1)); done; sleep 600`;
    const { id, logPath } = await start(dockerd, script, { Type: "json-file", Config: { "max-size": "20k", "max-file": files } });
    const warnings: object[] = [];
    const logs = LogLane.open({
      docker: { url: dockerd.host, socketPath: dockerd.api.socketPath },
      log: { ...quiet, warn: (fields) => void warnings.push(fields) },
    });
    context.after(() => logs.close());
    let seen: LogPosition | undefined;
    logs.on("positions", ([first]) => {
      seen ??= first?.position;
    });
    const request = { taskKey: files, sinks: [{ type: "sandbox" as const }], fields: {}, hostname: "h" };
    const source: LogSource = { kind: "json-file", path: logPath };
    await logs.follow({ ...request, source, sandbox: sandboxOf(folder.path, `first${files}`) });
    await waitFor(() => seen);
    await logs.stop({ taskKey: files, drain: false, deadline: Date.now() });
    await dockerd.api.call("POST", `/containers/${id}/kill?signal=USR1`);
    await waitFor(() => readFileSync(logPath, "latin1").includes('"n 2999 '));

    await logs.follow({ ...request, source, sandbox: sandboxOf(folder.path, `rest${files}`), position: seen as LogPosition });
    await waitFor(() => numbersOf(sandboxOf(folder.path, `rest${files}`).stdoutPath).at(-1) === 2999);
    const statistics = await logs.stop({ taskKey: files, drain: true, deadline: Date.now() + 30_000 });
    await logs.close();
    await dockerd.api.call("DELETE", `/containers/${id}?force=1`);

    assert.equal(statistics?.gaps, 1);
    assert.match(statistics?.lastGap ?? "", /deleted or cut off before it was read/);
    assert.equal(warnings.length, 1);
    const rest = numbersOf(sandboxOf(folder.path, `rest${files}`).stdoutPath);
    assert.deepEqual(
      rest,
      Array.from({ length: rest.length }, (_, index) => 3000 - rest.length + index),
    );
  }
});

test("a stream of dockerd's API that falls silent while the container writes is opened again, and no line is missing", async () => {
  await using dockerd = await startDockerd();
  await using proxy = await startSocketProxy(dockerd.host);
  const { id } = await start(dockerd, 'i=0; while [ $i -lt 100 ]; do echo "n $i"; i=$((i+1)); sleep 0.05; done', {
    Type: "json-file",
    Config: {},
  });
  const source = new ApiSource({
    docker: { url: proxy.host, socketPath: proxy.host.slice("unix://".length) },
    containerId: id,
    tty: false,
    maxLineBytes: 1024,
    silentMs: 500,
  });
  const lines: string[] = [];
  const read = (): number => {
    source.read((line) => lines.push(line.buffer.toString("latin1", line.start, line.end)));
    return lines.length;
  };
  await source.open();

  await waitFor(() => read() > 10);
  proxy.stall();
  await waitFor(() => read() === 100);
  source.close();

  assert.ok(source.reopened > 0);
  assert.deepEqual(
    lines,
    Array.from({ length: 100 }, (_, index) => `n ${index}`),
  );
});

async function rootOf(dockerd: Dockerd): Promise<string> {
  return (await dockerd.api.call<{ DockerRootDir: string }>("GET", "/info")).DockerRootDir;
}

function sandboxOf(folder: string, name: string): { stdoutPath: string; stderrPath: string; writable: boolean } {
  return { stdoutPath: join(folder, `${name}.stdout`), stderrPath: join(folder, `${name}.stderr`), writable: true };
}

function numbersOf(path: string): number[] {
  if (!existsSync(path)) return [];
  return [...readFileSync(path, "latin1").matchAll(/^n (\d+) /gm)].map((match) => Number(match[1]));
}
