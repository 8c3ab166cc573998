import type { Child, ChildExit, Spawn } from "@berth/protocol";
import { removeCgroups } from "./cgroups.ts";
import type { ChildCgroup, Host } from "./host.ts";
import { signalTree, startTimeOf, type TreeRoot, treeIsEmpty } from "./process-tree.ts";
import { hadOomKill, makeTaskCgroup, type TaskCgroup } from "./task-cgroup.ts";

export interface ChildrenHandlers {
  exited(taskId: string, exit: ChildExit): void;
  output(taskId: string, stream: "stdout" | "stderr", bytes: Uint8Array): void;
  log(line: string): void;
}

interface Running {
  root: TreeRoot;
  cgroup: TaskCgroup;
  /** It was asked to end: what is left when its root is over may use the grace period like the root. */
  asked: boolean;
}

const SIGKILL = 9;
const SIGTERM = 15;
/** How often what outlives a SIGKILL is looked at again, milliseconds. */
const REAP_AGAIN_MS = 50;
const MAX_REAPS = 100;
/** How often a cgroup that is not empty yet is looked at again, milliseconds. */
const REMOVE_AGAIN_MS = 20;
const MAX_REMOVALS = 50;
/** The variable by which a task's processes are known; its value is made by the supervisor. */
const MARK_VARIABLE = "BERTH_TASK";

/** The processes of command tasks: started, signalled as whole trees, and never left behind. */
export class Children {
  readonly #host: Host;
  readonly #handlers: ChildrenHandlers;
  readonly #running = new Map<string, Running>();
  #spawns = 0;

  constructor(host: Host, handlers: ChildrenHandlers) {
    this.#host = host;
    this.#handlers = handlers;
  }

  /** Starts a task's process. Returns what it is known by, or the reason why it could not be started. */
  spawn(spawn: Spawn): Child | string {
    const cgroup = makeTaskCgroup(this.#host, spawn.taskId, ++this.#spawns);
    const { cgroups } = cgroup;
    const forward = spawn.output === "forward";
    const spawned = this.#host.spawn(
      {
        argv: spawn.argv,
        environment: spawn.environment,
        directory: spawn.directory,
        output: forward ? "pipe" : "inherit",
        cgroups,
        ...(spawn.user === undefined ? {} : { user: spawn.user }),
        ...(spawn.rlimits === undefined ? {} : { rlimits: spawn.rlimits }),
      },
      {
        output: (stream, bytes) => this.#handlers.output(spawn.taskId, stream, bytes),
        exit: (code, signal) => this.#ended(spawn.taskId, code, signal),
      },
    );
    if (typeof spawned === "string") {
      this.#removeCgroups(cgroups);
      return spawned;
    }
    const { pid, joined } = spawned;
    if (!joined) this.#handlers.log(`task ${spawn.taskId}: its cgroup cannot be joined; its processes are found by their environment`);
    const root = { pid, startTime: startTimeOf(this.#host, pid) ?? "" };
    const child: Child = { ...root, ...(cgroups.length === 0 ? {} : { cgroups: cgroups.map(({ directory }) => directory) }) };
    const value = spawn.environment[MARK_VARIABLE];
    const mark = value === undefined ? "" : `${MARK_VARIABLE}=${value}`;
    this.#running.set(spawn.taskId, { root: { ...root, mark, cgroups }, cgroup, asked: false });
    return child;
  }

  /** Signals the whole tree of a task; names in `except` are spared by anything but SIGKILL. */
  signal(taskId: string, signal: number, except: readonly string[] = []): void {
    const running = this.#running.get(taskId);
    if (running === undefined) return;
    if (signal === SIGTERM) running.asked = true;
    // After a SIGKILL nothing has time any more.
    if (signal === SIGKILL) running.asked = false;
    signalTree(this.#host, running.root, signal, except);
  }

  /** SIGKILL for everything that still runs; for the worker's own end. */
  killAll(): void {
    for (const taskId of this.#running.keys()) this.signal(taskId, SIGKILL);
  }

  /** The root is over. Nobody hears of it before all that it left in the background is gone too, by SIGKILL unless a kill is under way. */
  #ended(taskId: string, code: number | null, signal: number | null): void {
    const running = this.#running.get(taskId);
    if (running === undefined) return;
    const at = this.#host.wallClock();
    // A shell tells the SIGKILL of its last command as 137.
    const oomKilled = hadOomKill(this.#host, running.cgroup, signal === SIGKILL || code === 128 + SIGKILL);
    const exit: ChildExit = { at, ...(signal === null ? { exitCode: code ?? 255 } : { signal }), ...(oomKilled ? { oomKilled } : {}) };
    this.#reap(taskId, running, exit, 0);
  }

  #reap(taskId: string, running: Running, exit: ChildExit, round: number): void {
    if (!treeIsEmpty(this.#host, running.root) && round < MAX_REAPS) {
      if (!running.asked) this.signal(taskId, SIGKILL);
      this.#host.setTimer(REAP_AGAIN_MS, () => this.#reap(taskId, running, exit, running.asked ? 0 : round + 1));
      return;
    }
    this.#removeCgroups(running.cgroup.cgroups);
    this.#running.delete(taskId);
    this.#handlers.exited(taskId, exit);
  }

  /** The last process may be over, but not yet gone for the kernel. What cannot be removed at all is left to the supervisor and the agent. */
  #removeCgroups(cgroups: readonly ChildCgroup[], round = 0): void {
    if (removeCgroups(this.#host, cgroups) || round === MAX_REMOVALS) return;
    this.#host.setTimer(REMOVE_AGAIN_MS, () => this.#removeCgroups(cgroups, round + 1));
  }
}
