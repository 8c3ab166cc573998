import type { ChildHandlers, SpawnOptions } from "../core/host.ts";
import { type Natives, wellFormed } from "./natives.ts";
import type { Streams } from "./streams.ts";

interface Running {
  handlers: ChildHandlers;
  /** Read what the pipes hold. */
  readPipes: (() => void)[];
}

/** The processes that the worker started. */
export class ChildProcesses {
  readonly #natives: Natives;
  readonly #streams: Streams;
  readonly #running = new Map<number, Running>();

  constructor(natives: Natives, streams: Streams) {
    this.#natives = natives;
    this.#streams = streams;
  }

  spawn(options: SpawnOptions, handlers: ChildHandlers): number | string {
    const started = this.#natives.spawn({
      argv: options.argv.map(wellFormed),
      environment: Object.entries(options.environment).flat().map(wellFormed),
      directory: wellFormed(options.directory),
      pipes: options.output === "pipe",
      user: options.user === undefined ? null : { ...options.user, groups: [...options.user.groups] },
      limits: (options.rlimits ?? []).map(({ type, soft, hard }) => ({ type, soft, hard })),
      cgroupFiles: (options.cgroupProcsFiles ?? []).map(wellFormed),
    });
    if (typeof started === "string") return started;
    const [pid, stdout, stderr] = started;
    const pipes = [["stdout", stdout] as const, ["stderr", stderr] as const].filter(([, id]) => id !== 0);
    const readPipes = pipes.map(([name, id]) => this.#streams.pipe(id, (bytes) => handlers.output(name, bytes)));
    this.#running.set(pid, { handlers, readPipes });
    return pid;
  }

  exited(pid: number, code: number | null, signal: number | null): void {
    const running = this.#running.get(pid);
    if (running === undefined) return;
    this.#running.delete(pid);
    // Its own output is in the pipes by now. They stay open: what it left in the background may still write.
    for (const read of running.readPipes) read();
    running.handlers.exit(code, signal);
  }
}
