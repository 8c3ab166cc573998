import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { test } from "node:test";
import { waitFor } from "@berth/test-harness";
import { ownPidNamespace, readStat } from "../executor/process-life.ts";
import { PidFinder } from "./pid-here.ts";

const AS_ROOT = process.getuid?.() === 0 ? {} : { skip: "needs root" };

async function ended(child: ChildProcess): Promise<void> {
  child.kill("SIGKILL");
  await once(child, "exit");
}

test("a child of this pid namespace is itself, as long as it is that very process", async () => {
  const child = spawn("sleep", ["300"], { stdio: "ignore" });
  const pid = child.pid as number;
  const { startTime = "" } = readStat(pid) ?? {};
  const pidNamespace = ownPidNamespace() as string;
  try {
    const finder = new PidFinder();

    assert.equal(await finder.find({ pid, startTime }, { pid: 1, pidNamespace }), pid);
    assert.equal(await finder.find({ pid, startTime }, { pid: 1 }), pid);
    assert.equal(await finder.find({ pid, startTime: "1" }, { pid: 1, pidNamespace }), undefined);
  } finally {
    await ended(child);
  }
});

test("children of other pid namespaces are found by the number that they have there, many at once", AS_ROOT, async () => {
  const script = "sleep 300 & wait";
  const outers = Array.from({ length: 3 }, () =>
    spawn("unshare", ["--pid", "--fork", "--kill-child", "sh", "-c", script], { stdio: "ignore" }),
  );
  try {
    const sleepers = await waitFor(() => {
      const found = outers.map((outer) => descendantOf(outer.pid as number, 2));
      return found.every((pid) => pid !== undefined) && (found as number[]);
    });
    const finder = new PidFinder();

    const pids = await Promise.all(
      sleepers.map((pid) => {
        const pidNamespace = readlinkSync(`/proc/${pid}/ns/pid`);
        const startTime = readStat(pid)?.startTime ?? "";
        // The shell is the first process of its namespace, and the worker's number for its child the second.
        return finder.find({ pid: 2, startTime }, { pid: 1, pidNamespace });
      }),
    );

    assert.deepEqual(pids, sleepers);
    const pidNamespace = readlinkSync(`/proc/${sleepers[0]}/ns/pid`);
    assert.equal(await finder.find({ pid: 2, startTime: "1" }, { pid: 1, pidNamespace }), undefined);
  } finally {
    for (const outer of outers) await ended(outer);
  }
});

/** The only descendant so many generations down, once it is a sleep. */
function descendantOf(pid: number, generations: number): number | undefined {
  if (generations === 0) return readFileSync(`/proc/${pid}/comm`, "utf8") === "sleep\n" ? pid : undefined;
  const child = readdirSync("/proc").find((name) => /^\d+$/.test(name) && readStat(Number(name))?.parent === pid);
  return child === undefined ? undefined : descendantOf(Number(child), generations - 1);
}
