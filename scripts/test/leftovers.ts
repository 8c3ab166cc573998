import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** A process, a mount or a network interface that a test run should have ended. */
export interface Leftover {
  description: string;
  pid?: number;
  mountPoint?: string;
  link?: string;
}

/** Milliseconds that the last processes of a run get to go away by themselves. */
const PATIENCE_MS = 5_000;

/**
 * What is left of a run whose files are all below `folder` and whose processes carry BERTH_TEST_RUN=folder, name the folder in
 * their arguments, or work in it. Looks again for a few seconds before it calls anything left over.
 */
export async function findLeftovers(folder: string, patienceMs = PATIENCE_MS): Promise<Leftover[]> {
  const end = performance.now() + patienceMs;
  for (;;) {
    const leftovers = [...processes(folder), ...mounts(folder), ...links(folder)];
    if (leftovers.length === 0 || performance.now() > end) return leftovers;
    await sleep(100);
  }
}

/** Ends what {@link findLeftovers} found, so that the next run starts clean. */
export function endLeftovers(leftovers: Leftover[]): void {
  for (const { pid, mountPoint, link } of leftovers) {
    if (mountPoint !== undefined) spawnSync("umount", ["--lazy", mountPoint]);
    if (link !== undefined) spawnSync("ip", ["link", "delete", link]);
    if (pid === undefined) continue;
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // Gone in the meantime.
    }
  }
}

function processes(folder: string): Leftover[] {
  const found: Leftover[] = [];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      const cmdline = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      const marked = readFileSync(`/proc/${pid}/environ`, "utf8").includes(`BERTH_TEST_RUN=${folder}`);
      // A task's process has an environment of its own, but its sandbox is in the folder.
      if (marked || cmdline.includes(`${folder}/`) || readlinkSync(`/proc/${pid}/cwd`).startsWith(`${folder}/`))
        found.push({ pid, description: `process ${pid}: ${cmdline.replaceAll("\0", " ").trim()}` });
    } catch {
      // Gone in the meantime, or not ours to read.
    }
  }
  return found;
}

function mounts(folder: string): Leftover[] {
  return readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "")
    .filter((point) => point.startsWith(`${folder}/`))
    .reverse()
    .map((mountPoint) => ({ mountPoint, description: `mount ${mountPoint}` }));
}

/** Bridges carry the folder of their dockerd as their alias. */
function links(folder: string): Leftover[] {
  const { stdout } = spawnSync("ip", ["-json", "link"], { encoding: "utf8" });
  const all = stdout ? (JSON.parse(stdout) as { ifname: string; ifalias?: string }[]) : [];
  return all
    .filter(({ ifalias }) => ifalias?.startsWith(`${folder}/`))
    .map(({ ifname }) => ({ link: ifname, description: `network interface ${ifname}` }));
}
