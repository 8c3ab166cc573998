/** `berth run` with a supervisor of its own, as on a host without berthd. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { program } from "@berth/cli/programs";
import { tempDir, waitFor } from "@berth/test-harness";
import { allGone, newMark, processesWith, shellTask } from "./command-tasks-stage.ts";

interface Run {
  berth: ChildProcess;
  told: () => string;
  ended: Promise<unknown[]>;
}

/** `berth run` of a task that has this mark and ends with 5 when it is asked to, once it runs. */
async function runTask(folder: string, mark: string): Promise<Run> {
  const file = `${folder}/task.json`;
  writeFileSync(file, JSON.stringify(shellTask(`trap 'exit 5' TERM; sleep ${mark} & wait`)));
  // The leader of a process group, as a command that a shell starts in the foreground.
  const berth = spawn(program("berth"), ["--socket", `${folder}/none.sock`, "run", file], {
    detached: true,
    env: { ...process.env, TMPDIR: folder, DOCKER_HOST: `unix://${folder}/no-docker.sock` },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = once(berth, "close");
  let told = "";
  berth.stderr.setEncoding("utf8").on("data", (text: string) => {
    told += text;
  });
  await waitFor(() => told.includes("TASK_RUNNING") && processesWith(mark).length > 0, { what: "the task" });
  return { berth, told: () => told, ended };
}

async function endsByCtrlC({ berth, told, ended }: Run, mark: string): Promise<void> {
  process.kill(-(berth.pid as number), "SIGINT");

  await waitFor(() => told().includes("TASK_KILLED"), { what: "its end" });
  assert.deepEqual(await ended, [5, null]);
  await allGone(mark, "the end of its processes");
}

function end({ pid, exitCode, signalCode }: ChildProcess): void {
  if (exitCode === null && signalCode === null) process.kill(-(pid as number), "SIGKILL");
}

test("Ctrl-C, which a terminal sends to everything in the foreground, kills the task gracefully and tells how it ended", async () => {
  await using folder = await tempDir("run");
  const mark = newMark();
  const run = await runTask(folder.path, mark);
  try {
    await endsByCtrlC(run, mark);
  } finally {
    end(run.berth);
  }
});

test("a berthd that dies is followed by another, and Ctrl-C ends the task all the same", async () => {
  await using folder = await tempDir("run");
  const mark = newMark();
  const run = await runTask(folder.path, mark);
  try {
    const berthd = readdirSync("/proc").find((pid) => /^\d+$/.test(pid) && parentOf(pid) === String(run.berth.pid) && isBerthd(pid));
    process.kill(Number(berthd), "SIGKILL");
    await waitFor(() => run.told().includes("berthd ended with SIGKILL; starting another"), { what: "another berthd" });
    await endsByCtrlC(run, mark);
  } finally {
    end(run.berth);
  }
});

function parentOf(pid: string): string | undefined {
  return read(`/proc/${pid}/stat`).split(") ")[1]?.split(" ")[1];
}

function isBerthd(pid: string): boolean {
  return /supervisor\/main|berthd/.test(read(`/proc/${pid}/cmdline`));
}

/** Empty for a process that is gone. */
function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}
