import type { ChildHandlers, Spawned, SpawnOptions } from "../core/host.ts";
import { EAGAIN, type Native, READ } from "./native.ts";
import { wellFormed } from "./text.ts";

interface Pipe {
  id: number;
  stream: "stdout" | "stderr";
  handlers: ChildHandlers;
}

interface Child {
  handlers: ChildHandlers;
  pipes: Pipe[];
}

/** What spawn.rs does between fork and exec, by its number; 0 is std's own part: the directory and the exec. */
const SPAWN_STEPS: Record<number, string> = {
  1: "a session of its own could not be made",
  2: "a resource limit could not be set",
  3: "the user could not be changed",
  4: "the worker's death could not be tied to it",
  5: "signals could not be reset",
};
/** So many reads of one pipe, then the others get their turn. */
const MAX_READS = 16;
/** What a pipe may still hold when the child is over, with room to spare: background processes may go on writing for ever. */
const MAX_LAST_READS = 256;

/** Child processes with their pipes. */
export class LeanChildren {
  readonly #native: Native;
  readonly #children = new Map<number, Child>();
  readonly #pipes = new Map<number, Pipe>();
  #reads = true;

  constructor(native: Native) {
    this.#native = native;
  }

  /** As `Host.spawn`. */
  spawn(options: SpawnOptions, handlers: ChildHandlers): Spawned | string {
    const [pid = 0, joinedOrStep = 0, stdout, stderr] = this.#native.spawn({
      argv: options.argv.map(wellFormed),
      names: Object.keys(options.environment).map(wellFormed),
      values: Object.values(options.environment).map(wellFormed),
      directory: wellFormed(options.directory),
      piped: options.output === "pipe",
      ids: options.user && [options.user.uid, options.user.gid, ...options.user.groups],
      limits: (options.rlimits ?? []).map(({ type, soft, hard }) => ({ type, soft: soft ?? undefined, hard: hard ?? undefined })),
      cgroups: (options.cgroups ?? []).map(({ version, directory }) => ({ version, directory: wellFormed(directory) })),
    });
    if (pid <= 0) return this.#explain(this.#native.errorName(-pid), joinedOrStep, options);
    const pipes: Pipe[] = [];
    if (stdout !== undefined) pipes.push({ id: stdout, stream: "stdout", handlers });
    if (stderr !== undefined) pipes.push({ id: stderr, stream: "stderr", handlers });
    for (const pipe of pipes) {
      this.#pipes.set(pipe.id, pipe);
      this.#native.watch(pipe.id, this.#reads ? READ : 0);
    }
    this.#children.set(pid, { handlers, pipes });
    return { pid, joined: joinedOrStep !== 0 };
  }

  /** As `Host.readChildren`. */
  read(read: boolean): void {
    this.#reads = read;
    for (const id of this.#pipes.keys()) this.#native.watch(id, read ? READ : 0);
  }

  /** Reads the pipe of this number, if it is a child's. */
  ready(id: number): void {
    const pipe = this.#pipes.get(id);
    if (pipe !== undefined && this.#reads) this.#read(pipe, MAX_READS);
  }

  /** The root's end is what counts. Its pipes stay open: what it left in the background may still write. */
  ended(pid: number, code: number | null, signal: number | null): void {
    const child = this.#children.get(pid);
    if (child === undefined) return;
    this.#children.delete(pid);
    for (const pipe of child.pipes) this.#read(pipe, MAX_LAST_READS);
    child.handlers.exit(code, signal);
  }

  #read(pipe: Pipe, times: number): void {
    for (let count = 0; count < times && this.#pipes.has(pipe.id); count++) {
      const got = this.#native.read(pipe.id);
      if (typeof got !== "number") pipe.handlers.output(pipe.stream, new Uint8Array(got));
      else if (got === -EAGAIN) return;
      else if (this.#pipes.delete(pipe.id)) this.#native.close(pipe.id);
    }
  }

  #explain(error: string, step: number, { argv, directory }: SpawnOptions): string {
    if (step !== 0) return `${error}: ${SPAWN_STEPS[step] ?? "it could not be prepared"}`;
    const [program = ""] = argv;
    if (error === "EACCES") return `EACCES: ${program} is not executable, or the directory ${directory} may not be entered`;
    if (error !== "ENOENT") return error;
    if (!this.#native.exists(wellFormed(directory))) return `ENOENT: the directory ${directory} does not exist`;
    return program.includes("/") ? `ENOENT: ${program} does not exist` : `ENOENT: ${program} is in no directory of PATH`;
  }
}
