/** Process trees of real processes. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { waitFor } from "@berth/test-harness";
import { nodeHost } from "../host-node/host.ts";
import { signalTree, startTimeOf, type TreeRoot, treeIsEmpty } from "./process-tree.ts";

const host = nodeHost();

function start(script: string, mark = `BERTH_TASK=${randomUUID()}`): TreeRoot {
  const [name = "", value = ""] = mark.split("=");
  const child = spawn("/bin/sh", ["-c", script], { detached: true, stdio: "ignore", env: { PATH: process.env.PATH, [name]: value } });
  const pid = child.pid as number;
  return { pid, startTime: startTimeOf(host, pid) as string, mark, cgroups: [] };
}

const SIGKILL = 9;
const SIGTERM = 15;

test("descendants, background daemons in sessions of their own, and orphans are all found", async () => {
  const root = start("sleep 300 & setsid sleep 300 & (setsid sh -c 'sleep 300 & exec sleep 300' &) ; wait");
  await waitFor(() => signalTree(host, root, 0) >= 5);

  signalTree(host, root, SIGKILL);

  await waitFor(() => treeIsEmpty(host, root));
});

test("a stopped process heeds SIGTERM", async () => {
  const root = start("kill -STOP $$; sleep 300");
  await waitFor(() => host.readTextFile(`/proc/${root.pid}/stat`)?.includes(") T "));

  signalTree(host, root, SIGTERM);

  await waitFor(() => treeIsEmpty(host, root));
});

test("the spared are spared by SIGTERM, not by SIGKILL", async () => {
  const root = start("sleep 300 & wait");
  await waitFor(() => signalTree(host, root, 0) === 2);

  assert.equal(signalTree(host, root, SIGTERM, ["SLEEP"]), 1);
  await waitFor(() => signalTree(host, root, 0) === 1);
  assert.equal(treeIsEmpty(host, root), false);
  signalTree(host, root, SIGKILL, ["sleep"]);

  await waitFor(() => treeIsEmpty(host, root));
});

test("a pid that was used again, this process, and tasks without a mark are nobody's", async () => {
  const other = start("sleep 300");
  const before: TreeRoot = { ...other, startTime: "1", mark: "" };
  assert.ok(treeIsEmpty(host, before));
  const self: TreeRoot = {
    pid: process.pid,
    startTime: startTimeOf(host, "self") as string,
    mark: "BERTH_TASK=none",
    cgroups: [],
  };
  assert.equal(signalTree(host, { ...self, pid: 2 ** 22 + 1 }, 0), 0);
  signalTree(host, other, SIGKILL);
  await waitFor(() => treeIsEmpty(host, other));
});
