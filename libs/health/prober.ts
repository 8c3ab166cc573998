import { Lane } from "@berth/lane";
import type { CheckInfo, HealthCheck } from "@berth/mesos/task-info";
import { runInContainer } from "./command-check.ts";
import type { Outcome } from "./outcome.ts";
import { commandOf, isProcess, outcomeOf, Probe } from "./probe.ts";
import type { CheckedTask, HealthParts } from "./types.ts";

type Check = HealthCheck | CheckInfo;

/** What the health thread is started with. */
export interface ProbeStart {
  procPath: string;
}

/** The thread's methods. */
export interface ProbeMethods {
  probe(request: { check: Check; observed: CheckedTask["observed"] }, signal: AbortSignal): Promise<Outcome>;
}

/**
 * Makes checks: commands in containers by the Docker engine, all others in a thread of their own, which is started with the
 * first of them.
 */
export class Prober {
  readonly #parts: HealthParts;
  readonly #start: ProbeStart;
  #here: Probe | undefined;
  #lane: Lane<ProbeMethods> | undefined;

  constructor(parts: HealthParts) {
    this.#parts = parts;
    this.#start = { procPath: parts.procPath ?? "/proc" };
    if (parts.thread === false) this.#here = new Probe(this.#start);
  }

  /** Rejects only for what is not the task's doing. */
  async run(check: Check, observed: CheckedTask["observed"], signal: AbortSignal): Promise<Outcome> {
    if (check.type === "COMMAND" && !isProcess(observed)) {
      const timeoutMs = check.timeout_seconds * 1000;
      // The engine keeps the time itself: only it can kill what runs in a container.
      return await outcomeOf(timeoutMs, async () => {
        const ran = await runInContainer(this.#parts.exec, observed.id, commandOf(check), timeoutMs, signal);
        return { kind: "command", ...ran };
      });
    }
    if (this.#here !== undefined) return await this.#here.run(check, observed, signal);
    const { id, pid, startedAt } = observed;
    return await this.#thread().call("probe", { check, observed: { id, pid, startedAt } }, signal);
  }

  async close(): Promise<void> {
    await this.#lane?.close();
  }

  #thread(): Lane<ProbeMethods> {
    this.#lane ??= new Lane<ProbeMethods>({
      name: "health",
      entry: new URL("./health.thread.ts", import.meta.url),
      start: this.#start satisfies ProbeStart,
      log: this.#parts.log,
    });
    return this.#lane;
  }
}
