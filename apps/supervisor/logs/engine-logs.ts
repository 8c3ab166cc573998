import { closeSync, constants, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Observed } from "@berth/runtime";
import type { DockerEngine, LogChunk } from "@berth/runtime/docker/engine";
import type { Outcome } from "../task/outcome.ts";
import type { LogPort } from "../task/ports.ts";

const APPEND = constants.O_APPEND | constants.O_CREAT | constants.O_WRONLY | constants.O_NOFOLLOW;

/** Last output of a failed or killed container, asked of dockerd and appended to the sandbox. Nothing is relayed while it runs. */
export class EngineLogs implements LogPort {
  readonly #engine: DockerEngine;
  readonly #sandbox: string;
  readonly #options: { logsSinceMs: number; lastLogsBytes: number; now: () => number };

  constructor(engine: DockerEngine, sandbox: string, options: { logsSinceMs: number; lastLogsBytes: number; now: () => number }) {
    this.#engine = engine;
    this.#sandbox = sandbox;
    this.#options = options;
  }

  follow(): void {}

  async finish(observed: Observed | undefined, outcome: Outcome): Promise<string[]> {
    if (observed?.state !== "exited" || outcome.state === "TASK_FINISHED" || !/^[0-9a-f]{64}$/.test(observed.id)) return [];
    const since = BigInt(Math.max(0, Math.floor(this.#options.now() - this.#options.logsSinceMs))) * 1_000_000n;
    const { chunks } = await this.#engine.logs({ id: observed.id, since, maxBytes: this.#options.lastLogsBytes });
    for (const { stream, data } of chunks) this.#append(stream, data);
    return lastLines(chunks);
  }

  /** Never through a symbolic link: the sandbox belongs to the task. */
  #append(stream: LogChunk["stream"], data: Uint8Array): void {
    try {
      const fd = openSync(join(this.#sandbox, stream), APPEND, 0o644);
      writeSync(fd, data);
      closeSync(fd);
    } catch {} // A sandbox that the agent has already removed.
  }
}

function lastLines(chunks: readonly LogChunk[]): string[] {
  const text = chunks.map(({ data }) => Buffer.from(data).toString("utf8")).join("");
  return text
    .split("\n")
    .filter((line) => line !== "")
    .slice(-5)
    .map((line) => line.slice(0, 512));
}
