/** deploy/executor.sh as a framework's executor command: what reaches the worker, and that nothing stands between. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { tempDir } from "@berth/test-harness";

const SCRIPT = fileURLToPath(new URL("../../deploy/executor.sh", import.meta.url));
const PATH = "/usr/bin:/bin";

/** Runs the wrapper with a worker that says what it got: its pid first, then its arguments, then its environment. */
async function run(files: Record<string, string>, environment: Record<string, string>, script = SCRIPT) {
  await using folder = await tempDir("x");
  for (const [name, text] of Object.entries({ worker: '#!/bin/sh\necho "$$ $PPID"\necho "$*"\nenv\n', ...files })) {
    await writeFile(join(folder.path, name), text);
    await chmod(join(folder.path, name), 0o755);
  }
  const given = Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, value.replace("@", folder.path)]));
  const defaults = { BERTH_ENVIRONMENT_FILE: `${folder.path}/none`, SIDECAR_EXECUTOR_CUSTOM_ENV_PATH: `${folder.path}/none` };
  const running = promisify(execFile)(script, ["--docker=x y"], {
    cwd: folder.path,
    env: { PATH, BERTH_WORKER: join(folder.path, "worker"), ...defaults, ...given },
  });
  const pid = running.child.pid;
  const { stdout } = await running;
  const [ids = "", args, ...lines] = stdout.trimEnd().split("\n");
  const seen = new Map(lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
  return { pid, ids: ids.split(" ").map(Number), args, seen };
}

describe("deploy/executor.sh", () => {
  test("becomes the worker: the same process, its arguments and the framework's environment", async () => {
    const { pid, ids, args, seen } = await run({}, { MESOS_EXECUTOR_ID: "e 1" });

    assert.deepEqual(ids, [pid, process.pid]);
    assert.equal(args, "--docker=x y");
    assert.equal(seen.get("MESOS_EXECUTOR_ID"), "e 1");
  });

  test("gives the host's settings, read as systemd reads them; the framework's own win", async () => {
    const text =
      "# comment\n; comment\n\nPLAIN=a b $HOME `id`\nDOUBLE=\"a b\"\nSINGLE='c=d'\nEMPTY=\nTASK=host\nnot a setting\n1X=2\nA-B=c\nLAST=end";
    const { seen } = await run({ settings: text }, { BERTH_ENVIRONMENT_FILE: "@/settings", TASK: "framework" });

    for (const [name, value] of Object.entries({
      PLAIN: "a b $HOME `id`",
      DOUBLE: "a b",
      SINGLE: "c=d",
      EMPTY: "",
      TASK: "framework",
      LAST: "end",
    }))
      assert.equal(seen.get(name), value, name);
    for (const name of ["1X", "A-B", "not a setting"]) assert.equal(seen.has(name), false);
  });

  test("runs the script of the host that the incumbent's wrapper would run", async () => {
    const script = 'export VAULT_ADDR="https://vault/$UNSET"\nexport TASK=host\nPRIVATE=1\n';
    const { seen } = await run({ script }, { SIDECAR_EXECUTOR_CUSTOM_ENV_PATH: "@/script", TASK: "framework" });

    assert.equal(seen.get("VAULT_ADDR"), "https://vault/");
    assert.equal(seen.get("TASK"), "host");
    assert.equal(seen.has("PRIVATE"), false);
  });

  test("finds the worker of its own installation, through symbolic links", async () => {
    await using root = await tempDir("i");
    await mkdir(join(root.path, "bin"));
    await mkdir(join(root.path, "deploy"));
    await writeFile(join(root.path, "bin/berth-worker"), '#!/bin/sh\necho "$$ $PPID"\necho "installed"\nenv\n', { mode: 0o755 });
    await promisify(execFile)("cp", [SCRIPT, join(root.path, "deploy/executor.sh")]);
    await symlink("deploy/executor.sh", join(root.path, "link"));

    const { args } = await run({}, { BERTH_WORKER: "" }, join(root.path, "link"));

    assert.equal(args, "installed");
  });

  test("says what is missing", async () => {
    await assert.rejects(run({}, { BERTH_WORKER: "/no/worker" }), (error: Error & { code: number; stderr: string }) => {
      assert.equal(error.code, 127);
      assert.match(error.stderr, /no worker at \/no\/worker; set BERTH_WORKER/);
      return true;
    });
  });
});
