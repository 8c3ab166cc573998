import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { type TempDir, tempDir } from "@berth/test-harness";
import { projectRoot } from "./node-path.mjs";

const run = promisify(execFile);
const TELL = "console.log(JSON.stringify({ pid: process.pid, args: process.argv.slice(2), program: process.argv[1] }));";
const PROGRAMS = { berthd: "supervisor/main.mjs", "berth-worker": "worker/berth-worker.cjs", berth: "cli/main.mjs" } as const;
let installed: TempDir;

// An installation whose programs only tell how they were started.
before(async () => {
  installed = await tempDir("inst all");
  await cp(join(projectRoot, "bin"), join(installed.path, "bin"), { recursive: true });
  await symlink(process.execPath, join(installed.path, "node"));
  for (const path of Object.values(PROGRAMS)) {
    await mkdir(join(installed.path, path, ".."), { recursive: true });
    await writeFile(join(installed.path, path), `${TELL} if (process.argv.includes("wait")) setInterval(() => {}, 1000);`);
  }
});
after(() => installed.remove());

for (const [name, program] of Object.entries(PROGRAMS)) {
  test(`${name} runs its program with its arguments, also through symlinks and from anywhere`, async () => {
    const launcher = join(installed.path, "bin", name);
    const absolute = join(installed.path, `${name}-absolute`);
    const relative = join(installed.path, `${name}-relative`);
    await symlink(launcher, absolute);
    await symlink(`${name}-absolute`, relative);

    for (const [command, cwd] of [
      [launcher, "/"],
      [absolute, "/"],
      [`./${name}-relative`, installed.path],
      [`bin/${name}`, installed.path],
    ]) {
      const { stdout } = await run(command as string, ["a b", ""], { cwd: cwd as string });

      const told = JSON.parse(stdout) as { args: string[]; program: string };
      assert.deepEqual(told.args, ["a b", ""]);
      assert.equal(told.program, join(installed.path, program));
    }
  });
}

test("the launcher becomes the program: same pid, and its signals arrive", async () => {
  const child = spawn(join(installed.path, "bin/berth-worker"), ["wait"], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(child.stdout.setEncoding("utf8"), "data")) as [string];
  child.kill("SIGTERM");

  const [code, signal] = (await once(child, "exit")) as [number | null, string | null];

  assert.equal((JSON.parse(line) as { pid: number }).pid, child.pid);
  assert.deepEqual([code, signal], [null, "SIGTERM"]);
});

test("a lean worker beside the bundle is preferred", async () => {
  const lean = join(installed.path, "worker/berth-worker-lean");
  await writeFile(lean, '#!/bin/sh\necho "lean $1"\n', { mode: 0o755 });

  const { stdout } = await run(join(installed.path, "bin/berth-worker"), ["x"]);

  assert.equal(stdout, "lean x\n");
});

for (const [what, environment, onNode] of [
  ["wants TLS by libprocess's setting", { LIBPROCESS_SSL_ENABLED: "true" }, true],
  ["wants TLS by our own setting", { BERTH_AGENT_SCHEME: "https" }, true],
  ["wants none by our own setting", { LIBPROCESS_SSL_ENABLED: "1", BERTH_AGENT_SCHEME: "http" }, false],
  ["wants TLS, but not on its domain socket", { LIBPROCESS_SSL_ENABLED: "1", MESOS_DOMAIN_SOCKET: "/run/agent.sock" }, false],
] as const) {
  test(`an agent that ${what}: the worker runs on ${onNode ? "Node, and says so" : "the lean host"}`, async () => {
    const lean = join(installed.path, "worker/berth-worker-lean");
    await writeFile(lean, '#!/bin/sh\necho "lean $1"\n', { mode: 0o755 });

    const { stdout, stderr } = await run(join(installed.path, "bin/berth-worker"), ["x"], {
      env: { PATH: process.env.PATH, ...environment },
    });

    assert.equal(stdout === "lean x\n", !onNode);
    assert.equal(stderr, onNode ? "berth-worker: the agent wants TLS, so this worker runs on Node\n" : "");
  });
}

test("without any Node the message says what to do", async () => {
  await using bare = await tempDir("bare");
  await cp(join(projectRoot, "bin"), join(bare.path, "bin"), { recursive: true });
  await mkdir(join(bare.path, "supervisor"));
  await writeFile(join(bare.path, "supervisor/main.mjs"), TELL);

  await assert.rejects(run(join(bare.path, "bin/berthd"), { env: { PATH: "/nowhere" } }), (error: { code: number; stderr: string }) => {
    assert.equal(error.code, 127);
    assert.match(error.stderr, /^berthd: Berth needs Node 24 .* run: npm install/);
    return true;
  });
});
