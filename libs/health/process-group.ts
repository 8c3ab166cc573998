import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";

/** In the environment of everything that a check starts, so that what left its process group is still found. */
const MARK = "BERTH_CHECK";

/** A child in a process group of its own, which is killed whole: when the signal aborts, and what is left of it at the child's end. */
export interface GroupedChild {
  child: ChildProcess;
  /** Resolves at the child's end with its exit code (128 + n for a signal); rejects when it could not be started. */
  ended: Promise<number>;
}

/** Starts a program whose whole group ends with it, or with the signal. */
export function spawnGroup(argv: readonly string[], options: SpawnOptions, signal: AbortSignal): GroupedChild {
  const child = spawn(argv[0] as string, argv.slice(1), { ...options, detached: true });
  const kill = (): void => killGroup(child.pid);
  signal.addEventListener("abort", kill, { once: true });
  const ended = new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, killedBy) => resolve(code ?? 128 + (killedBy === "SIGKILL" ? 9 : 15)));
  }).finally(() => {
    signal.removeEventListener("abort", kill);
    kill();
  });
  ended.catch(() => {});
  if (signal.aborted) kill();
  return { child, ended };
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // Nobody is left in it.
  }
}

/** An environment entry that tells the processes of one check from all others. */
export function newMark(): { name: string; value: string } {
  return { name: MARK, value: randomUUID() };
}

/** Kills every process with the mark, also one that has made a session of its own. */
export async function killMarked(mark: { name: string; value: string }, procPath: string): Promise<void> {
  const entry = Buffer.from(`${mark.name}=${mark.value}`);
  for (const pid of await readdir(procPath)) {
    if (!/^\d+$/.test(pid)) continue;
    const environment = await readFile(`${procPath}/${pid}/environ`).catch(() => Buffer.alloc(0));
    if (!environment.includes(entry)) continue;
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch {
      // Gone in the meantime.
    }
  }
}
