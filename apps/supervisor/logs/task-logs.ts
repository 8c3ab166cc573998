import { existsSync, lstatSync } from "node:fs";
import { join } from "node:path";
import type { LogLine } from "@berth/admin-api";
import { endOfSandboxFile, type LogLane, type LogPosition, type LogSource, type SandboxTarget, type SinkConfig } from "@berth/logrelay";
import type { DescriptorKind } from "@berth/protocol";
import { pause } from "@berth/retry";
import type { Observed, TaskIdentity } from "@berth/runtime";
import type { ContainerSummary, DockerEngine } from "@berth/runtime/docker/engine";
import type { Executor } from "../executor/executor.ts";
import type { Outcome } from "../task/outcome.ts";
import type { LogPort, LogQuery, OutputPiece, TaskLog } from "../task/ports.ts";
import type { TaskRuntime } from "../task/runtime.ts";
import { taskKey } from "../task-key.ts";
import type { TaskLogOptions } from "./log-options.ts";

export interface TaskLogsParts {
  lane: LogLane;
  engine: DockerEngine;
  executor: Executor;
  identity: TaskIdentity;
  runtime: TaskRuntime;
  options: TaskLogOptions;
  /** The position that an earlier supervisor kept, if any. */
  position: LogPosition | undefined;
  now: () => number;
  log: TaskLog;
}

/** Output of a command task that is kept until it is followed. */
const MAX_EARLY_BYTES = 8 * 1024 * 1024;
/** What is still on its way when a task ends gets this long, milliseconds; then it is dropped and counted. */
const DRAIN_BUDGET_MS = 5000;
/** How long the last output of a task may be looked for in its log, milliseconds: what was found by then is copied. */
const LAST_LOGS_MS = 8_000;
const LOOK_MS = 200;

/** The output of one task: relayed while it runs, and its end copied to the sandbox when it failed or was killed. */
export class TaskLogs implements LogPort {
  readonly #parts: TaskLogsParts;
  #source: LogSource | undefined;
  #labels: Readonly<Record<string, string>> = {};
  #following: Promise<void> | undefined;
  #sandboxFollowed = false;
  /** Output of a command task that came before it was followed; undefined once it is. */
  #early: OutputPiece[] | undefined = [];
  #earlySize = 0;
  /** How the output of a command task comes here is settled before its process is started, for its whole life. */
  #way: LogPosition["kind"] | undefined;
  /** Bytes of each stream that came, and that the worker has for us. */
  readonly #came: { stdout: number; stderr: number };
  #expected = { stdout: 0, stderr: 0 };
  #onCame: () => void = () => {};
  /** Aborts when the task writes nothing more. */
  readonly #over = new AbortController();

  constructor(parts: TaskLogsParts) {
    this.#parts = parts;
    const { position } = parts;
    this.#way = position?.kind;
    this.#came = position?.kind === "pushed" ? { stdout: position.stdout, stderr: position.stderr } : { stdout: 0, stderr: 0 };
  }

  get wantsOutput(): boolean {
    return this.#way !== "text" && this.#sinks(this.#parts.now()).length > 0;
  }

  beginning(): LogPosition | undefined {
    if (this.#parts.runtime.kind !== "process" || this.#sinks(this.#parts.now()).length === 0) return undefined;
    const position = this.#endOfFiles() ?? { kind: "pushed", stdout: 0, stderr: 0 };
    this.#way = position.kind;
    return position;
  }

  push(piece: OutputPiece): void {
    const { lane, identity, executor } = this.#parts;
    const { stream, bytes, offset } = piece;
    if (offset !== undefined) this.#came[stream] = Math.max(this.#came[stream], offset + bytes.length);
    this.#onCame();
    if (!this.wantsOutput) {
      // The targets were taken out of the settings: the worker need not keep it for them.
      if (offset !== undefined) executor.send({ type: "taken", taskId: identity.taskId, ...this.#came });
      return;
    }
    if (this.#early === undefined) return lane.push({ taskKey: taskKey(identity), ...piece });
    this.#earlySize += bytes.length;
    if (this.#earlySize <= MAX_EARLY_BYTES) this.#early.push(piece);
  }

  expect(written: { stdout: number; stderr: number }): void {
    // What an older supervisor was given is not known: it was sent once and not kept.
    if (this.#way === "pushed") this.#expected = written;
  }

  follow(observed: Observed, position: unknown): void {
    if (this.#following !== undefined || observed.state !== "running") return;
    const sinks = this.#sinks(observed.startedAt);
    if (sinks.length === 0) return;
    this.#following = this.#begin(sinks, position);
  }

  async finish(observed: Observed | undefined, outcome: Outcome, position: unknown): Promise<string[]> {
    const { lane, identity, options, runtime, now, log } = this.#parts;
    this.#over.abort();
    // One that was over before anybody saw it run, or that ended while no supervisor was there, has written all the same.
    const written = this.#way === "text" || this.#missing || (runtime.kind === "docker" && observed?.state === "exited");
    if (this.#following === undefined && (this.#earlySize > 0 || written)) {
      const sinks = this.#sinks(observed?.state === "exited" ? (observed.exit.startedAt ?? now()) : now());
      if (sinks.length > 0) this.#following = this.#begin(sinks, position);
    }
    await this.#following;
    await this.#allCame();
    const key = taskKey(identity);
    try {
      await lane.stop({ taskKey: key, drain: true, deadline: now() + DRAIN_BUDGET_MS });
      if (outcome.state === "TASK_FINISHED" || observed?.state !== "exited") return [];
      const source = await this.#findSource();
      if (source === undefined) return [];
      const last = await lane.lastLogs(
        {
          taskKey: key,
          source,
          sandbox: this.#sandbox(),
          // Counted from its end, which may have come while no supervisor was there.
          since: Math.min(now(), observed.exit.finishedAt || now()) - options.logsSinceMs,
          maxBytes: options.lastLogsBytes,
          alreadyInSandbox: source.kind === "text" || this.#sandboxFollowed,
        },
        AbortSignal.timeout(LAST_LOGS_MS),
      );
      if (last.problem !== undefined)
        log.warn({ taskId: identity.taskId, problem: last.problem }, "the task's last output could not be copied whole");
      return last.lines;
    } catch (err) {
      log.warn({ taskId: identity.taskId, err }, "the task's last output could not be copied");
      return [];
    }
  }

  async *read(query: LogQuery, signal: AbortSignal): AsyncGenerator<LogLine> {
    let source = await this.#findSource();
    // Before its container is there nothing is written.
    while (source === undefined && query.follow && !this.#over.signal.aborted && !signal.aborted) {
      await pause(LOOK_MS);
      source = await this.#findSource();
    }
    if (source === undefined) return;
    if (source.kind === "text" && query.since !== undefined)
      throw new Error("the output of a command task has no times, so that nothing can be left out by them (--since); --tail can be used");
    for await (const lines of this.#parts.lane.read({ source, ...query }, signal, this.#over.signal)) {
      for (const { stream, time, bytes } of lines) yield { stream, time, text: Buffer.from(bytes).toString("utf8") };
    }
  }

  async #begin(sinks: SinkConfig[], position: unknown): Promise<void> {
    try {
      await this.#relay(sinks, position as LogPosition | undefined);
    } catch (err) {
      this.#parts.log.warn({ taskId: this.#parts.identity.taskId, err }, "the task's output cannot be relayed");
    }
  }

  async #relay(sinks: SinkConfig[], position: LogPosition | undefined): Promise<void> {
    const { lane, identity, options, runtime } = this.#parts;
    const source: LogSource | undefined =
      runtime.kind === "process" && this.#way !== "text" ? { kind: "pushed" } : await this.#findSource();
    if (source === undefined) return;
    this.#sandboxFollowed = sinks.some((sink) => sink.type === "sandbox");
    await lane.follow({
      taskKey: taskKey(identity),
      source,
      sandbox: this.#sandbox(),
      sinks,
      fields: options.fields(this.#labels),
      hostname: options.hostname,
      options: options.follow,
      ...(position === undefined ? {} : { position }),
    });
    for (const piece of this.#early ?? []) lane.push({ taskKey: taskKey(identity), ...piece });
    this.#early = undefined;
  }

  /**
   * The process writes to the sandbox's files itself where it is the only one that does: read from there nothing is lost, whoever is
   * away for however long. Undefined where a logger is in between, and where several tasks write to the same files.
   */
  #endOfFiles(): LogPosition | undefined {
    const { executor } = this.#parts;
    const { stdout, stderr } = executor.hello;
    if (executor.tasks.size > 1 || stdout.kind !== "file" || stderr.kind !== "file") return undefined;
    const { stdoutPath, stderrPath } = this.#sandbox();
    const places = { stdout: endOfSandboxFile(stdoutPath, stdout), stderr: endOfSandboxFile(stderrPath, stderr) };
    if (places.stdout === undefined || places.stderr === undefined) return undefined;
    return { kind: "text", stdout: places.stdout, stderr: places.stderr };
  }

  /** What the worker kept comes after its hello, as it is taken; the task may have ended before. Bounded. */
  async #allCame(): Promise<void> {
    if (!this.#missing || this.#parts.executor.presence !== "connected") return;
    await new Promise<void>((resolve) => {
      const patience = setTimeout(resolve, DRAIN_BUDGET_MS);
      this.#onCame = () => {
        if (this.#missing) return;
        clearTimeout(patience);
        resolve();
      };
    });
  }

  get #missing(): boolean {
    return this.#came.stdout < this.#expected.stdout || this.#came.stderr < this.#expected.stderr;
  }

  /** The worker of a command task has its output in the sandbox already. */
  #sinks(startedAt: number): SinkConfig[] {
    const sinks = this.#parts.options.sinks(startedAt);
    return this.#parts.runtime.kind === "process" ? sinks.filter((sink) => sink.type !== "sandbox") : sinks;
  }

  async #findSource(): Promise<LogSource | undefined> {
    const { runtime, engine } = this.#parts;
    if (runtime.kind === "process") {
      const { stdoutPath, stderrPath } = this.#sandbox();
      return { kind: "text", stdoutPath, stderrPath };
    }
    if (this.#source === undefined) {
      const summary = await engine.inspect(runtime.name);
      if (summary !== undefined) {
        this.#source = await sourceOf(summary, async () => (await engine.info()).dockerRootDir);
        this.#labels = summary.labels;
      }
    }
    return this.#source;
  }

  #sandbox(): SandboxTarget {
    const { sandbox, stdout, stderr } = this.#parts.executor.hello;
    const stdoutPath = join(sandbox, "stdout");
    const stderrPath = join(sandbox, "stderr");
    // Where the agent puts a logger between, the worker's descriptors are pipes, and only it can write to the sandbox's files.
    return { stdoutPath, stderrPath, writable: isFile(stdout, stdoutPath) && isFile(stderr, stderrPath) };
  }
}

/** Where a container's output is read from: the log file itself where its driver writes one, else dockerd. */
export async function sourceOf(
  { id, logDriver, logPath, tty }: Pick<ContainerSummary, "id" | "logDriver" | "logPath" | "tty">,
  dockerRoot: () => Promise<string>,
): Promise<LogSource | undefined> {
  if (logDriver === "none") return undefined;
  if (logDriver === "json-file" && logPath !== "") return { kind: "json-file", path: logPath, containerId: id, tty };
  if (logDriver === "local") {
    // Docker names no path for this driver; it lies where the driver of every version so far has put it.
    const path = join(await dockerRoot(), "containers", id, "local-logs", "container.log");
    if (existsSync(path)) return { kind: "local-file", path, containerId: id, tty };
  }
  return { kind: "api", containerId: id, tty };
}

function isFile(descriptor: DescriptorKind, path: string): boolean {
  if (descriptor.kind !== "file") return false;
  try {
    const found = lstatSync(path, { bigint: true });
    return found.isFile() && String(found.dev) === descriptor.device && String(found.ino) === descriptor.inode;
  } catch {
    return false;
  }
}
