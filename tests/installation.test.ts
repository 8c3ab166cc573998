import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { request } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { sharedDockerd, type TempDir, tempDir, waitFor } from "@berth/test-harness";
import { build } from "../scripts/build/build.ts";
import { leanWorkerObstacle } from "../scripts/build/lean-worker.ts";

const run = promisify(execFile);
let home: TempDir;
let files: Map<string, number>;

before(async () => {
  home = await tempDir("dist");
  ({ files } = await build(join(home.path, "berth")));
});
after(() => home.remove());

const program = (name: string): string => join(home.path, "berth/bin", name);

test("the worker is one small file", () => {
  const worker = [...files].filter(([path]) => path.startsWith("worker/") && path.endsWith(".cjs"));

  assert.equal(worker.length, 1);
  // Every task of a host loads it. Beyond this size something has come along that a worker does not need.
  assert.ok((worker[0]?.[1] ?? 0) < 128 * 1024, `the worker's bundle has ${worker[0]?.[1]} bytes`);
});

test("the lean worker is there where cargo is, and runs", { skip: withoutLeanWorker() }, async () => {
  const size = files.get("worker/berth-worker-lean") ?? 0;

  const environment = { PATH: "/nowhere" };
  await assert.rejects(run(program("berth-worker"), { env: environment }), (error: { code: number; stderr: string }) => {
    assert.equal(error.code, 2);
    assert.match(error.stderr, /MESOS_EXECUTOR_ID is not set/);
    return true;
  });
  assert.ok(size > 0 && size < 3 * 1024 * 1024, `the lean worker has ${size} bytes`);
});

function withoutLeanWorker(): string | false {
  return leanWorkerObstacle() ?? false;
}

test("the installed berthd serves, starts its threads and ends at SIGTERM", async () => {
  await using docker = await sharedDockerd();
  const socket = join(home.path, "run/berthd.sock");
  const env = { ...process.env, BERTH_SOCKET: socket, DOCKER_HOST: docker.host };
  const child = spawn(program("berthd"), { cwd: "/", env, stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    log += text;
  });
  try {
    const healthy = await waitFor(() => get(join(home.path, "run/admin.sock"), "/healthz"), { what: "berthd to serve" });
    // Said by the thread that holds the engine's connection.
    await waitFor(() => log.includes("dockerd answers"), { what: "the engine's thread" });

    assert.equal(healthy, '{"ok":true}');
  } finally {
    child.kill("SIGTERM");
  }
  const [code] = (await once(child, "exit")) as [number | null];
  assert.equal(code, 0, log);
});

function get(socketPath: string, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, path, agent: false }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      response.on("end", () => resolve(body.trim()));
    });
    sent.on("error", reject).end();
  });
}

test("the installed berth explains itself", async () => {
  const { stdout } = await run(program("berth"), ["--help"], { cwd: "/" });

  assert.match(stdout, /Usage: berth/);
});
