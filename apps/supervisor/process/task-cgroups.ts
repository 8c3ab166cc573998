/**
 * The cgroups of command tasks whose worker is gone. It named them (docs/protocol.md); what it says is checked here before root
 * kills anything by it.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { readdir, rmdir } from "node:fs/promises";
import { basename, normalize } from "node:path";
import { type CgroupOwner, cgroupOwner, namespaceNumber } from "@berth/protocol";
import { lifeOf, ownPidNamespace, type ProcessIdentity } from "../executor/process-life.ts";

const MOUNT = "/sys/fs/cgroup";
/** Where a worker makes cgroups: v2 (alone, or beside v1) and the two hierarchies of v1. */
const HIERARCHIES = [MOUNT, `${MOUNT}/unified`, `${MOUNT}/freezer`, `${MOUNT}/memory`];
/** So far down cgroups are searched. */
const MAX_DEPTH = 16;

/**
 * Of the directories that a worker says it made for a task, those that it can have made: in the cgroup filesystem, and named after this
 * task and this very worker. Whatever else is there, under another name, is not its.
 */
export function ownCgroups(claimed: readonly string[], taskId: string, worker: ProcessIdentity): string[] {
  return claimed.filter((path) => {
    if (!path.startsWith(`${MOUNT}/`) || path !== normalize(path) || path.endsWith("/")) return false;
    const owner = cgroupOwner(basename(path), taskId);
    return owner !== undefined && owner.pid === worker.pid && owner.startTime === worker.startTime && isOfOwnNamespace(owner);
  });
}

/** Cgroups of tasks whose worker is gone, wherever they are: for those that died while nobody looked. */
export async function orphanedCgroups(): Promise<string[]> {
  const found: string[] = [];
  // Where v2 is the only one, the other three are not there; beside v1 the first has no cgroups of its own.
  for (const root of HIERARCHIES) if (existsSync(`${root}/cgroup.procs`)) await collectOrphans(root, 0, found);
  return found;
}

async function collectOrphans(directory: string, depth: number, found: string[]): Promise<void> {
  if (depth > MAX_DEPTH) return;
  for (const name of await below(directory)) {
    const path = `${directory}/${name}`;
    const owner = cgroupOwner(name);
    if (owner === undefined) await collectOrphans(path, depth + 1, found);
    else if (isOfOwnNamespace(owner) && lifeOf({ ...owner, pidNamespace: `pid:[${owner.pidNamespace}]` }) === "gone") found.push(path);
  }
}

/** A pid of another namespace says nothing here. */
function isOfOwnNamespace({ pidNamespace }: CgroupOwner): boolean {
  return pidNamespace === namespaceNumber(ownPidNamespace() ?? "");
}

/** The pids in these cgroups and in what is below them. */
export async function pidsIn(cgroups: readonly string[]): Promise<number[]> {
  const pids = new Set<number>();
  for (const directory of await withBelow(cgroups)) {
    for (const line of readText(`${directory}/cgroup.procs`).split("\n")) if (line !== "") pids.add(Number(line));
  }
  return [...pids];
}

/**
 * SIGKILL for all that is in these cgroups now, at one stroke: by `cgroup.kill` (v2), or held still by the freezer while it is killed one by
 * one (v1). Where neither is to be had (v1's memory hierarchy alone, Linux before 5.14), a tree that forks may need another call. Returns the pids.
 */
export async function killInCgroups(cgroups: readonly string[]): Promise<number[]> {
  const pids = (await pidsIn(cgroups)).filter((pid) => pid > 1);
  // Should this very process have been put there, nothing is done: a root daemon that somebody moved is not the task's.
  if (pids.length === 0 || pids.includes(process.pid)) return [];
  for (const directory of cgroups) if (!write(`${directory}/cgroup.kill`, "1")) write(`${directory}/freezer.state`, "FROZEN");
  const killed = new Set(pids);
  try {
    for (const pid of await pidsIn(cgroups)) {
      // The pid may have been used again since it was listed.
      if (pid <= 1 || !isIn(pid, cgroups)) continue;
      try {
        process.kill(pid, "SIGKILL");
        killed.add(pid);
      } catch {} // It ended by itself.
    }
  } finally {
    // Also what its worker held still when it died.
    for (const directory of cgroups) write(`${directory}/freezer.state`, "THAWED");
  }
  return [...killed];
}

/** Removes cgroups that are empty, with what is below them. False where one is not, if only for a process that is just ending. */
export async function removeCgroups(cgroups: readonly string[]): Promise<boolean> {
  for (const directory of (await withBelow(cgroups)).reverse()) await rmdir(directory).catch(() => {});
  return !cgroups.some((directory) => existsSync(directory));
}

/** Whether a process is in one of these cgroups, by what the kernel says of it. */
function isIn(pid: number, cgroups: readonly string[]): boolean {
  const names = cgroups.map((directory) => `/${basename(directory)}`);
  return readText(`/proc/${pid}/cgroup`)
    .split("\n")
    .some((line) => names.some((name) => line.endsWith(name) || line.includes(`${name}/`)));
}

/** These and all that are below them; each before what is in it. */
async function withBelow(cgroups: readonly string[]): Promise<string[]> {
  const all = cgroups.filter((directory) => existsSync(directory));
  // It grows while it is gone through.
  for (const directory of all) all.push(...(await below(directory)).map((name) => `${directory}/${name}`));
  return all;
}

async function below(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** False where there is no such file, or it takes no such word. */
function write(path: string, text: string): boolean {
  try {
    writeFileSync(path, text, { flag: "r+" });
    return true;
  } catch {
    return false;
  }
}
