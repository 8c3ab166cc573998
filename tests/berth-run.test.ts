/** `berth run` with a supervisor of its own, as on a host without berthd. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { test } from "node:test";
import { program } from "@berth/cli/programs";
import { tempDir, waitFor } from "@berth/test-harness";
import { allGone, newMark, processesWith, shellTask } from "./command-tasks-stage.ts";

test("Ctrl-C, which a terminal sends to everything in the foreground, kills the task gracefully and tells how it ended", async () => {
  await using folder = await tempDir("run");
  const mark = newMark();
  const file = `${folder.path}/task.json`;
  writeFileSync(file, JSON.stringify(shellTask(`trap 'exit 5' TERM; sleep ${mark} & wait`)));
  // The leader of a process group, as a command that a shell starts in the foreground.
  const berth = spawn(program("berth"), ["--socket", `${folder.path}/none.sock`, "run", file], {
    detached: true,
    env: { ...process.env, TMPDIR: folder.path, DOCKER_HOST: `unix://${folder.path}/no-docker.sock` },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = once(berth, "close");
  let told = "";
  berth.stderr.setEncoding("utf8").on("data", (text: string) => {
    told += text;
  });
  try {
    await waitFor(() => told.includes("TASK_RUNNING") && processesWith(mark).length > 0, { what: "the task" });

    process.kill(-(berth.pid as number), "SIGINT");

    await waitFor(() => told.includes("TASK_KILLED"), { what: "its end" });
    assert.deepEqual(await ended, [5, null]);
    await allGone(mark, "the end of its processes");
  } finally {
    if (berth.exitCode === null && berth.signalCode === null) process.kill(-(berth.pid as number), "SIGKILL");
  }
});
