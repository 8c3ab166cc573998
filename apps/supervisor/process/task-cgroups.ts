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
const MAX_ROUNDS = 1000;
const HOLD_AT_ROUND = 3;

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
  return listed(await withBelow(cgroups));
}

/**
 * SIGKILL for all that is in these cgroups. v2 does it at one stroke (`cgroup.kill`). Otherwise what is listed is killed until the list has
 * nobody new: a process that has got its SIGKILL forks no more, so whoever is missed is listed the next time. A tree that forks faster
 * than that is held still by v1's freezer. Returns the pids.
 */
export async function killInCgroups(cgroups: readonly string[]): Promise<number[]> {
  const all = await withBelow(cgroups);
  const killed = new Set<number>();
  // Without a pause from here on: it is a race. Should this very process have been put there, it is not the task's.
  for (let round = 0; round < MAX_ROUNDS && !listed(all).includes(process.pid); round++) {
    const fresh = listed(all).filter((pid) => !killed.has(pid));
    if (fresh.length === 0) break;
    if (round === 0) for (const directory of cgroups) write(`${directory}/cgroup.kill`, "1");
    if (round === HOLD_AT_ROUND) for (const directory of cgroups) write(`${directory}/freezer.state`, "FROZEN");
    for (const pid of fresh) {
      killed.add(pid);
      try {
        process.kill(pid, "SIGKILL");
      } catch {} // It ended by itself.
    }
  }
  // Always: its worker may have died while it held it still, or the task itself holds what is below; and what is held does not die.
  for (const directory of all) write(`${directory}/freezer.state`, "THAWED");
  return [...killed];
}

function listed(directories: readonly string[]): number[] {
  const pids = directories.flatMap((directory) => readText(`${directory}/cgroup.procs`).split("\n").map(Number));
  // 0 is an empty line, or a process of another pid namespace.
  return pids.filter((pid) => pid > 1);
}

/** Removes cgroups that are empty, with what is below them. False where one is not, if only for a process that is just ending. */
export async function removeCgroups(cgroups: readonly string[]): Promise<boolean> {
  for (const directory of (await withBelow(cgroups)).reverse()) await rmdir(directory).catch(() => {});
  return !cgroups.some((directory) => existsSync(directory));
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
