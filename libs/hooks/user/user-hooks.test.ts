import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type TempDir, tempDir, waitFor } from "@berth/test-harness";
import { HookList } from "../config.ts";
import { hookTask, KILLED, TestSupervisor } from "../test-kit.ts";
import { loadUserHooks } from "./load.ts";

function write(folder: TempDir, name: string, text: string, mode = 0o755): string {
  const path = join(folder.path, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

async function load(...list: unknown[]) {
  return await loadUserHooks(HookList.parse(list));
}

test("a program gets the stage, the task and its own state, and may change what is created", async () => {
  await using folder = await tempDir();
  const seen = join(folder.path, "seen");
  const exec = write(
    folder,
    "hook",
    `#!/bin/sh\ncat > ${seen}\ncase "$(cat ${seen})" in *'"stage":"beforeCreate"'*) echo '{"environment":{"ADDED":"1"},"state":{"n":1}}';; esac\n`,
  );
  const { hooks, problems } = await load({ exec, stages: ["beforeCreate", "afterStop"] });
  assert.deepEqual(problems, []);
  const supervisor = new TestSupervisor(...hooks);
  const task = hookTask();

  const changed = await supervisor.run("beforeCreate", task);
  assert.deepEqual(changed.environment, { ADDED: "1" });
  await supervisor.run("afterStop", { ...task, stop: KILLED });

  const input = JSON.parse(readFileSync(seen, "utf8")) as { stage: string; state: unknown; task: { identity: unknown } };
  assert.equal(input.stage, "afterStop");
  assert.deepEqual(input.state, { n: 1 });
  assert.deepEqual(input.task.identity, task.identity);
});

test("a program that refuses, fails, hangs or prints garbage: a clear message, in bounded time", async () => {
  await using folder = await tempDir();
  const run = async (script: string, options: object = {}) => {
    const exec = write(folder, `hook-${Math.random()}`, `#!/bin/sh\n${script}\n`);
    const { hooks } = await load({ exec, name: "mine", stages: ["beforeCreate"], failsTask: true, timeout: "500ms", ...options });
    return await new TestSupervisor(...hooks).run("beforeCreate", hookTask());
  };

  await assert.rejects(run(`echo '{"refuse":"not on Fridays"}'`), /hook mine refuses the task: not on Fridays/);
  await assert.rejects(run("echo oh dear >&2; exit 3"), /hook mine failed: it ended with exit code 3: oh dear/);
  await assert.rejects(run("kill -9 $$"), /hook mine failed: it ended with SIGKILL/);
  await assert.rejects(run("echo garbage"), /hook mine printed something that is not JSON/);
  await assert.rejects(run(`echo '{"enviroment":{}}'`), /enviroment/);
  await assert.rejects(run(`echo '{"task":{}}'`), /task_id/);
  await assert.rejects(run("sleep 4714"), /did not finish beforeCreate within 500 ms/);
  await assert.rejects(run("yes"), /larger than 1 MiB|within/);
  await run("echo garbage", { failsTask: false });
  assert.doesNotMatch(execFileSync("ps", ["-eo", "args"], { encoding: "utf8" }), /sleep 4714/);
});

test("a program gets nothing of the daemon's environment but where things are", async () => {
  await using folder = await tempDir();
  const exec = write(folder, "hook", `#!/bin/sh\ncat >/dev/null\nprintf '{"state":"%s"}' "$(env | cut -d= -f1 | sort | tr '\\n' ' ')"\n`);
  const { hooks } = await load({ exec, stages: ["beforeStart"] });
  const supervisor = new TestSupervisor(...hooks);
  process.env.BERTH_TEST_CREDENTIAL = "secret";
  try {
    await supervisor.run("beforeStart", hookTask());
  } finally {
    delete process.env.BERTH_TEST_CREDENTIAL;
  }

  const names = String(supervisor.states.hook).trim().split(" ");
  assert.ok(names.includes("PATH"));
  assert.deepEqual(
    names.filter((name) => !["PATH", "HOME", "LANG", "TZ", "PWD", "SHLVL", "_", "OLDPWD"].includes(name)),
    [],
  );
});

test("a program that forks is not waited for, and its children end with it", async () => {
  await using folder = await tempDir();
  const exec = write(folder, "hook", "#!/bin/sh\nsleep 4715 &\necho '{\"state\":1}'\n");
  const { hooks } = await load({ exec, stages: ["afterHealthy"] });
  const supervisor = new TestSupervisor(...hooks);

  await supervisor.run("afterHealthy", hookTask());

  assert.deepEqual(supervisor.states, { hook: 1 });
  await waitFor(() => !/sleep 4715/.test(execFileSync("ps", ["-eo", "args"], { encoding: "utf8" })));
});

test("a program without an interpreter or a reader of its stdin does no harm", async () => {
  await using folder = await tempDir();
  const deaf = write(folder, "deaf", "#!/bin/sh\nexec 0<&-\nexit 0\n");
  const lost = write(folder, "lost", "#!/no/such/interpreter\n");
  const { hooks } = await load({ exec: deaf, stages: ["beforeStart"] }, { exec: lost, stages: ["beforeStart"] });
  const supervisor = new TestSupervisor(...hooks);

  await supervisor.run("beforeStart", hookTask({ data: "x".repeat(1_000_000) }));

  assert.equal(supervisor.warnings.length, 1);
});

test("a module that answers with garbage is told so", async () => {
  await using folder = await tempDir();
  const run = async (answer: string, stage = "beforeCreate") => {
    const module = write(
      folder,
      `hook-${Math.random()}.mjs`,
      `export const hook = { failsTask: true, stages: { ${stage}: () => (${answer}) } };`,
      0o644,
    );
    const { hooks } = await load({ module, name: "mine" });
    return await new TestSupervisor(...hooks).run(stage as "beforeCreate", hookTask());
  };

  await assert.rejects(run("({ environment: { A: 1 } })"), /hook mine gave an answer that is not understood/);
  await assert.rejects(run("'text'"), /not understood/);
  await assert.rejects(run("({ task: { name: 1 } })"), /task_id/);
  await assert.rejects(run("({ refuse: 'no' })"), /hook mine refuses the task: no/);
  await assert.rejects(run("({ environment: { A: '1' } })", "beforeStart"), /only beforeCreate/);
  await assert.rejects(run("(() => { throw new Error('sync') })()"), /sync/);
  assert.deepEqual((await run("null")).environment, {});
});

test("a module is a hook; what is broken is told, and the others are loaded", async () => {
  await using folder = await tempDir();
  const good = write(
    folder,
    "good.mjs",
    `export default { name: "audit", priority: 50, stages: { beforeCreate: async (task, { state }) => ({ state: (state ?? 0) + 1, environment: { AUDIT: task.identity.taskId } }) } };`,
    0o644,
  );
  const entries = [
    { module: good },
    { module: good, name: "again", priority: 60 },
    { module: good, name: "audit" },
    { module: write(folder, "throws.mjs", "throw new Error('at import');", 0o644) },
    { module: write(folder, "empty.mjs", "export const x = 1;", 0o644) },
    { module: write(folder, "misspelt.mjs", "export default { stages: { beforeCrate: () => {} } };", 0o644) },
    { module: write(folder, "syntax.mjs", "export default {", 0o644) },
    { module: join(folder.path, "absent.mjs") },
    { exec: write(folder, "not-executable", "#!/bin/sh\n", 0o644), stages: ["afterStop"] },
    { exec: write(folder, "writable", "#!/bin/sh\n", 0o777), stages: ["afterStop"] },
    { exec: write(folder, "no-stages", "#!/bin/sh\n") },
  ];
  const { hooks, problems } = await load("acl", ...entries);

  assert.deepEqual(
    hooks.map(({ name, priority }) => [name, priority]),
    [
      ["audit", 50],
      ["again", 60],
    ],
  );
  assert.equal(problems.length, entries.length - 2);
  for (const [index, word] of [
    "called 'audit' already",
    "at import",
    "exports no hook",
    "beforeCrate",
    "syntax.mjs",
    "absent.mjs",
    "EACCES",
    "everybody may write",
    "stages are not named",
  ].entries()) {
    assert.match(problems[index] ?? "", new RegExp(word));
  }
  const supervisor = new TestSupervisor(...hooks);
  const task = hookTask();
  assert.deepEqual((await supervisor.run("beforeCreate", task)).environment, { AUDIT: task.identity.taskId });
  assert.deepEqual(supervisor.states, { audit: 1, again: 1 });
});
