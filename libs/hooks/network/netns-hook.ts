import { mkdir, readlink, rename, rm, stat, symlink } from "node:fs/promises";
import { join } from "node:path";
import type { NetnsConfig } from "../config.ts";
import type { Hook, HookContext, HookResult, HookTask } from "../lifecycle.ts";

interface NetnsState {
  /** What the link pointed to when it was made. */
  target: string;
}

/**
 * Gives a container's network namespace a name, so that `ip netns exec <task id> …` works. The link of a task that ended goes; one
 * that a newer run of the same task id has made in the meantime stays.
 */
export function netnsHook(config: NetnsConfig, procPath: string): Hook {
  function linkOf(task: HookTask): string {
    // Mesos allows neither "/" nor "." alone in a task id; whoever sends one still only makes a file here.
    return join(config.path, task.identity.taskId.replaceAll("/", "_").replace(/^\.+$/, "_"));
  }

  async function afterStart(task: HookTask, { log }: HookContext): Promise<HookResult | undefined> {
    if (task.runtime !== "docker" || task.pid === undefined) return undefined;
    const target = `${procPath}/${task.pid}/ns/net`;
    const link = linkOf(task);
    await mkdir(config.path, { recursive: true, mode: 0o755 });
    // Renamed into place: a link of an earlier life is replaced, and there is never none.
    const temporary = `${link}.berth-${task.pid}`;
    await rm(temporary, { force: true });
    await symlink(target, temporary);
    await rename(temporary, link);
    log.debug({ link }, "the container's network namespace has a name");
    return { state: { target } satisfies NetnsState };
  }

  async function afterStop(task: HookTask, { state }: HookContext): Promise<undefined> {
    if (task.runtime !== "docker") return;
    const link = linkOf(task);
    const target = await readlink(link).catch(() => undefined);
    if (target === undefined || !/\/\d+\/ns\/net$/.test(target)) return;
    const ours = target === (state as NetnsState | undefined)?.target;
    const dangling = (await stat(link).catch(() => undefined)) === undefined;
    if (ours || dangling) await rm(link, { force: true });
  }

  return {
    name: "netns",
    priority: 100,
    timeoutMs: 5000,
    failsTask: false,
    stages: { afterStart, afterStop },
    describe: (task) => (task.runtime === "docker" ? `link the container's network namespace as ${linkOf(task)}` : undefined),
  };
}
