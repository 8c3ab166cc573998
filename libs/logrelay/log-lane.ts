import { EventEmitter } from "node:events";
import { Lane, type LaneLog, LaneLostError } from "@berth/lane";
import { Descriptors } from "./descriptors.ts";
import { comparableTime, timeMs } from "./line.ts";
import type { RelayStart } from "./relay.ts";
import { markTaken, type TakenMark } from "./taken.ts";
import type {
  FollowRequest,
  LastLogs,
  LastLogsRequest,
  LogPosition,
  LogStatistics,
  LogThreadMethods,
  PushRequest,
  ReadLine,
  ReadRequest,
  StopRequest,
  StreamName,
  TaskLogStatistics,
  ThreadLogLine,
} from "./types.ts";

export interface LogLaneLog extends LaneLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
}

export interface LogLaneOptions extends RelayStart {
  log: LogLaneLog;
  /** Heap limit of the thread in MiB. */
  maxHeapMb?: number;
}

export interface LogLaneEvents {
  /**
   * New positions for the checkpoints, together: a few times a second, and before a task's sinks are given more than 64 KiB beyond
   * the last one. They count as held when the listener returns; nothing more of such a task is read before that.
   */
  positions: [Array<{ taskKey: string; position: LogPosition }>];
  /** Bytes for a sandbox that only the worker can write to. Nothing more comes for this task until `done` is called. */
  output: [{ taskKey: string; stream: StreamName; bytes: Uint8Array; done: () => void }];
  /** Something about a task's logs is wrong (a receiver away, a gap); `undefined` when it is well again. Said once per change. */
  problem: [{ taskKey: string; problem: string | undefined }];
}

/**
 * The supervisor's door to all log work: one thread that reads every task's output and sends it on.
 *
 * INVARIANTS: a thread that dies is replaced and continues each task at its last position held (at most 64 KiB come twice);
 * nothing here blocks the caller or the container; after `stop` returned, the task's sinks get nothing more but, where it was
 * drained, what was on its way to a receiver that is away or slow.
 */
export class LogLane extends EventEmitter<LogLaneEvents> {
  readonly #lane: Lane<LogThreadMethods>;
  readonly #log: LogLaneLog;
  readonly #followed = new Map<string, FollowRequest>();
  /** What was handed in and is not confirmed: a thread that is replaced takes it along. Bounded by what a worker sends ahead. */
  readonly #pushed = new Map<string, PushRequest[]>();

  private constructor(options: LogLaneOptions) {
    super();
    const { log, maxHeapMb, ...start } = options;
    this.#log = log;
    const descriptors = new Descriptors();
    this.#lane = new Lane<LogThreadMethods>({
      name: "logs",
      entry: new URL("./logs.thread.ts", import.meta.url),
      start: { ...start, descriptors: descriptors.shared } satisfies RelayStart,
      log,
      ...(maxHeapMb === undefined ? {} : { maxHeapMb }),
    });
    const lane = this.#lane;
    lane.on("log", (line: ThreadLogLine) => log[line.level](line.fields, line.message));
    lane.on("positions", ({ batch, mark }: { batch: Array<{ taskKey: string; position: LogPosition }>; mark: TakenMark }) => {
      this.#keep(batch);
      markTaken(mark);
    });
    lane.on("problem", (event: { taskKey: string; problem: string | undefined }) => this.emit("problem", event));
    lane.on("output", (event: { id: number; taskKey: string; stream: StreamName; bytes: Uint8Array }) => this.#output(event));
    lane.on("restarted", () => {
      descriptors.closeAll();
      this.#refollow();
    });
  }

  static open(options: LogLaneOptions): LogLane {
    return new LogLane(options);
  }

  /** How often the thread had to be replaced. */
  get restarts(): number {
    return this.#lane.restarts;
  }

  /** Relays a task from `request.position` (or its beginning) until `stop`. A second call for the same task replaces the first. */
  async follow(request: FollowRequest): Promise<void> {
    this.#followed.set(request.taskKey, request);
    await this.#call("follow", request);
  }

  /** Output of a task whose source is `pushed`. Bytes of a task that is not followed are dropped. */
  push(request: PushRequest): void {
    const { taskKey, stream, bytes, offset } = request;
    if (!this.#followed.has(taskKey)) return;
    if (offset !== undefined) {
      const pushed = this.#pushed.get(taskKey) ?? [];
      pushed.push(request);
      this.#pushed.set(taskKey, pushed);
    }
    this.#push(request).catch((err: unknown) => {
      if (offset !== undefined && err instanceof LaneLostError) return;
      this.#log.warn({ taskKey, stream, bytes: bytes.length, err }, "output of a command task is lost to the relay");
    });
  }

  /** Ends a task's relay; returns what came of it, undefined when it was not followed. */
  async stop(request: StopRequest, signal?: AbortSignal): Promise<TaskLogStatistics | undefined> {
    if (!this.#followed.has(request.taskKey)) return undefined;
    try {
      return await this.#call("stop", request, signal);
    } finally {
      this.#followed.delete(request.taskKey);
      this.#pushed.delete(request.taskKey);
    }
  }

  /** Copies a failed or killed task's last output to its sandbox and returns the last lines. Never throws for a log that cannot be read. */
  async lastLogs(request: LastLogsRequest, signal?: AbortSignal): Promise<LastLogs> {
    return this.#call("lastLogs", request, signal);
  }

  /**
   * Lines of a task as they are and, with `follow`, as they come. Ends when the consumer stops, `signal` aborts, or `over` has aborted
   * (nothing more is written) and all is read. Goes on behind the last line's time when the thread has to be replaced.
   */
  async *read(request: ReadRequest, signal?: AbortSignal, over?: AbortSignal): AsyncGenerator<ReadLine[], void, undefined> {
    let shown = false;
    let last = "";
    let lost = 0;
    for (let next = request, until = ""; ; ) {
      try {
        for await (const lines of this.#read(next, signal, over)) {
          // Of the millisecond in which the new thread begins, some was shown already.
          const fresh = until === "" ? lines : lines.filter(({ time }) => comparableTime(time) > until);
          if (fresh.length === 0) continue;
          until = "";
          lost = 0;
          shown = true;
          last = comparableTime(lines.at(-1)?.time ?? "");
          yield fresh;
        }
        return;
      } catch (error) {
        lost += 1;
        if (!(error instanceof LaneLostError) || lost > 3) throw error;
        if (!shown) continue;
        if (last === "")
          throw new Error("the log thread was replaced, and this output has no times to go on by; ask again", { cause: error });
        const { tail: _shown, ...rest } = request;
        next = { ...rest, since: timeMs(last) };
        until = last;
      }
    }
  }

  async *#read(request: ReadRequest, signal?: AbortSignal, over?: AbortSignal): AsyncGenerator<ReadLine[], void, undefined> {
    const id = await this.#lane.call("readOpen", over?.aborted ? { ...request, follow: false } : request, signal);
    const ofThread = this.#ofThread();
    const finish = (): void => void ofThread(() => this.#lane.call("readFinish", { id })).catch(() => {});
    over?.addEventListener("abort", finish, { once: true });
    try {
      for (;;) {
        const lines = await ofThread(() => this.#lane.call("readNext", { id }, signal));
        if (lines.length === 0) return;
        yield lines;
      }
    } finally {
      over?.removeEventListener("abort", finish);
      await ofThread(() => this.#lane.call("readClose", { id })).catch(() => {});
    }
  }

  async stats(): Promise<LogStatistics> {
    return this.#call("stats", undefined);
  }

  /** Confirms what was sent, ends the thread. */
  async close(): Promise<void> {
    await this.#lane.close();
  }

  async #call<Name extends keyof LogThreadMethods>(
    method: Name,
    argument: Parameters<LogThreadMethods[Name]>[0],
    signal?: AbortSignal,
  ): Promise<Awaited<ReturnType<LogThreadMethods[Name]>>> {
    for (let send = 1; ; send++) {
      try {
        return (await this.#lane.call(method, argument as never, signal)) as Awaited<ReturnType<LogThreadMethods[Name]>>;
      } catch (error) {
        // A thread that dies under a call gets it again, after it was told what it follows: every method is safe to repeat.
        if (!(error instanceof LaneLostError) || send >= 3) throw error;
      }
    }
  }

  #keep(batch: Array<{ taskKey: string; position: LogPosition }>): void {
    for (const { taskKey, position } of batch) {
      const request = this.#followed.get(taskKey);
      if (request !== undefined) this.#followed.set(taskKey, { ...request, position });
      const pushed = this.#pushed.get(taskKey);
      if (pushed === undefined || position.kind !== "pushed") continue;
      const left = pushed.filter(({ stream, bytes, offset = 0 }) => offset + bytes.length > position[stream]);
      this.#pushed.set(taskKey, left);
    }
    this.emit("positions", batch);
  }

  #output({ id, taskKey, stream, bytes }: { id: number; taskKey: string; stream: StreamName; bytes: Uint8Array }): void {
    const ofThread = this.#ofThread();
    const done = (): void => void ofThread(() => this.#lane.call("outputTaken", { id })).catch(() => {});
    if (!this.emit("output", { taskKey, stream, bytes, done })) done();
  }

  /** Calls with a number that the present thread gave: its successor gives the same ones to others. */
  #ofThread(): <Result>(call: () => Promise<Result>) => Promise<Result> {
    const thread = this.restarts;
    return async (call) => {
      if (this.restarts !== thread) throw new LaneLostError("the log thread was replaced");
      return await call();
    };
  }

  #refollow(): void {
    for (const request of this.#followed.values()) {
      const calls = [this.#lane.call("follow", request)];
      for (const piece of this.#pushed.get(request.taskKey) ?? []) calls.push(this.#push(piece));
      Promise.all(calls).catch((err: unknown) => {
        this.#log.warn({ taskKey: request.taskKey, err }, "a task's logs could not be handed to the new log thread");
      });
    }
  }

  async #push(request: PushRequest): Promise<void> {
    await this.#lane.call("push", request);
  }
}
