import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type TempDir, tempDir, waitFor } from "@berth/test-harness";
import { lifeOf, ownPidNamespace, type ProcessIdentity, readStat } from "./process-life.ts";

function identityOf(pid: number): ProcessIdentity {
  return { pid, startTime: readStat(pid)?.startTime ?? "", pidNamespace: ownPidNamespace() ?? "" };
}

let folder: TempDir;
before(async () => {
  folder = await tempDir("z");
});
after(async () => {
  await folder?.remove();
});

test("life: alive, then gone; a pid that is used again is another process", async () => {
  const child = spawn("sleep", ["60"], { stdio: "ignore" });
  const identity = identityOf(child.pid as number);

  assert.equal(lifeOf(identity), "alive");
  assert.equal(lifeOf({ ...identity, startTime: "1" }), "gone");
  child.kill("SIGKILL");
  await once(child, "exit");
  assert.equal(lifeOf(identity), "gone");
});

test("life: nothing can be said of another namespace or without a start time", () => {
  const { startTime: _startTime, ...without } = identityOf(process.pid);

  assert.equal(lifeOf(without), "unknown");
  assert.equal(lifeOf({ ...identityOf(process.pid), pidNamespace: "pid:[1]" }), "unknown");
});

test("life: a zombie is gone, and a name with parentheses and blanks confuses nobody", async () => {
  // sleep does not reap the child that it has inherited from the shell.
  const parent = spawn("sh", ["-c", "sleep 0 & exec sleep 60"], { stdio: "ignore" });
  const named = spawn("bash", ["-c", 'cp $(command -v sleep) "$0" && exec "$0" 60', join(folder.path, "a) Z 1 (")], { stdio: "ignore" });
  try {
    const zombie = await waitFor(() => Number(readFileSync(`/proc/${parent.pid}/task/${parent.pid}/children`, "utf8").trim()));
    await waitFor(() => readStat(zombie)?.state === "Z");
    assert.equal(lifeOf(identityOf(zombie)), "gone");
    await waitFor(() => readFileSync(`/proc/${named.pid}/comm`, "utf8").trim() === "a) Z 1 (");
    assert.equal(lifeOf(identityOf(named.pid as number)), "alive");
  } finally {
    parent.kill("SIGKILL");
    named.kill("SIGKILL");
  }
});
