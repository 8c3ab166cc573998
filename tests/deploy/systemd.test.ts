import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { tempDir } from "@berth/test-harness";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const skip = spawnSync("systemd-analyze", ["--version"]).status === 0 ? false : "systemd-analyze is not installed";

test("systemd accepts the units", { skip }, async () => {
  await using folder = await tempDir("units");
  const service = await readFile(join(ROOT, "deploy/berthd.service"), "utf8");
  // Verification looks for the program, which is where the package puts it only on an installed host; and for no man page.
  const here = service.replace("/usr/lib/berth/bin/berthd", join(ROOT, "bin/berthd")).replace(/^Documentation=.*$/m, "");
  await writeFile(join(folder.path, "berthd.service"), here);
  await writeFile(join(folder.path, "berthd.socket"), await readFile(join(ROOT, "deploy/berthd.socket"), "utf8"));

  const units = ["berthd.service", "berthd.socket"].map((name) => join(folder.path, name));
  const { stdout, stderr } = await promisify(execFile)("systemd-analyze", ["verify", ...units]);

  // It exits with 0 also after warnings, unknown settings among them.
  const complaints = (stdout + stderr).split("\n").filter((line) => line.includes("berthd"));
  assert.deepEqual(complaints, []);
});

test("a stop, restart or upgrade of the unit leaves the tasks alone", async () => {
  const service = await readFile(join(ROOT, "deploy/berthd.service"), "utf8");

  assert.match(service, /^KillMode=process$/m);
  assert.match(service, /^RuntimeDirectoryPreserve=yes$/m);
  assert.doesNotMatch(service, /^(PartOf|BindsTo)=|^Requires=.*docker/m);
});
