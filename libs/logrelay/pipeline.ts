import type { Follower } from "./follower.ts";
import { cutLine, type Line } from "./line.ts";
import type { MultiLine } from "./multi-line.ts";
import type { Sink } from "./sink.ts";
import type { LogPosition, LogSource, TaskLogStatistics } from "./types.ts";

export interface PipelineParts {
  taskKey: string;
  kind: LogSource["kind"];
  source: Follower;
  sinks: readonly Sink[];
  maxLineBytes: number;
  multiLine?: MultiLine;
  /** A new confirmed position. */
  onPosition: (position: LogPosition) => void;
  onProblem: (problem: string | undefined) => void;
  /** What came of it in the end. */
  onClosed: (statistics: TaskLogStatistics) => void;
}

/** How many batches may wait for their confirmation before reading goes on without recording more positions. */
const MAX_UNCONFIRMED = 256;

/**
 * One task's way from its source to its sinks: reads a batch, gives it to every sink, waits for room, and confirms the position
 * behind the last batch that every sink has delivered.
 */
export class Pipeline {
  readonly #parts: PipelineParts;
  readonly #running: Promise<void>;
  #batch = 0;
  #unconfirmed: Array<{ batch: number; position: LogPosition }> = [];
  #stopping = false;
  #draining = false;
  #closed = false;
  #lines = 0;
  #bytes = 0;
  #cut = 0;
  #gaps = 0;
  #lastGap: string | undefined;
  #problem: string | undefined;
  #collected: Line[] = [];

  constructor(parts: PipelineParts) {
    this.#parts = parts;
    this.#running = this.#run();
  }

  get source(): Follower {
    return this.#parts.source;
  }

  gap(reason: string): void {
    this.#gaps += 1;
    this.#lastGap = reason;
  }

  /** Reads and delivers the rest (`drain`) until the deadline, then closes everything. */
  async stop(drain: boolean, signal: AbortSignal): Promise<TaskLogStatistics> {
    const { source, sinks } = this.#parts;
    this.#stopping = true;
    this.#draining = drain;
    source.wake();
    const aborted = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    const lookAgain = setInterval(() => source.wake(), 50);
    await Promise.race([this.#running, aborted, ...(signal.aborted ? [undefined] : [])]);
    clearInterval(lookAgain);
    if (drain && !signal.aborted) {
      await source.finish(signal).catch((error: Error) => {
        this.#say(error.message);
      });
      while (!signal.aborted && (await this.#step())) await new Promise((resolve) => setImmediate(resolve));
      this.#flush();
      await Promise.race([Promise.all(sinks.map((sink) => sink.drained(signal))), aborted]);
      this.#confirm();
    }
    const statistics = this.statistics();
    this.close(drain);
    return { ...statistics, sinks: sinks.map((sink) => sink.statistics()) };
  }

  /** With `leave`, what is on its way to a receiver may go on for a while: the task is over, and nobody reads its output again. */
  close(leave = false): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopping = true;
    for (const sink of this.#parts.sinks) sink.close(leave);
    this.#parts.onClosed(this.statistics());
    this.#parts.source.close();
  }

  statistics(): TaskLogStatistics {
    const { taskKey, kind, source, sinks } = this.#parts;
    const lagBytes = source.lag();
    return {
      taskKey,
      source: kind,
      lines: this.#lines,
      bytes: this.#bytes,
      cut: this.#cut,
      gaps: this.#gaps,
      malformed: source.malformed,
      reopened: source.reopened,
      sinks: sinks.map((sink) => sink.statistics()),
      ...(lagBytes === undefined ? {} : { lagBytes }),
      ...(this.#lastGap === undefined ? {} : { lastGap: this.#lastGap }),
      ...(this.#problem === undefined ? {} : { problem: this.#problem }),
    };
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      let some = false;
      try {
        some = await this.#step();
        if (some || this.#batch === 0) this.#say(this.#sinkProblem());
      } catch (error) {
        this.#say((error as Error).message);
      }
      // Other tasks and answers of receivers come in between.
      if (some) await new Promise((resolve) => setImmediate(resolve));
      else if (!this.#stopping) await this.#idle();
    }
  }

  /** One batch; false when there was nothing. */
  async #step(): Promise<boolean> {
    const { source, sinks } = this.#parts;
    const before = this.#parts.multiLine === undefined ? undefined : source.position();
    const some = source.read((line) => this.#take(line));
    if (!some) return false;
    const events = this.#collected.length;
    this.#deliver();
    // An event that is still held began in this batch where any other event was complete; else its place was noted before.
    const holding = this.#parts.multiLine?.holding === true;
    const position = holding ? (events > 0 ? before : undefined) : source.position();
    if (position !== undefined) {
      this.#unconfirmed.push({ batch: this.#batch, position });
      if (this.#unconfirmed.length > MAX_UNCONFIRMED) this.#unconfirmed.splice(MAX_UNCONFIRMED / 2, 1);
    }
    this.#confirm();
    if (!this.#stopping || this.#draining) await Promise.all(sinks.map((sink) => sink.room()));
    this.#confirm();
    return true;
  }

  async #idle(): Promise<void> {
    const { source, multiLine } = this.#parts;
    this.#confirm();
    if (this.#unconfirmed.length === 0 && multiLine?.holding !== true) return source.wait();
    // Something is still on its way: look at it again, whatever the source does.
    const look = setTimeout(() => source.wake(), 20);
    await source.wait();
    clearTimeout(look);
    multiLine?.expire((line) => this.#collect(line));
    if (this.#collected.length > 0) this.#deliver();
    const position = source.position();
    if (multiLine !== undefined && !multiLine.holding && position !== undefined) this.#unconfirmed.push({ batch: this.#batch, position });
    this.#say(this.#sinkProblem());
  }

  #take(line: Line): void {
    this.#lines += 1;
    this.#bytes += line.end - line.start;
    if (this.#parts.multiLine !== undefined) this.#parts.multiLine.take(line, (event) => this.#collect(event));
    else this.#collect(line);
  }

  #collect(line: Line): void {
    if (line.end - line.start > this.#parts.maxLineBytes) {
      const cut = cutLine(line, this.#parts.maxLineBytes);
      if (cut !== line) this.#cut += 1;
      this.#collected.push(cut);
    } else this.#collected.push(line);
  }

  #deliver(): void {
    const lines = this.#collected;
    this.#collected = [];
    this.#batch += 1;
    if (lines.length > 0) for (const sink of this.#parts.sinks) sink.write(lines, this.#batch);
  }

  #flush(): void {
    this.#parts.source.flush((line) => this.#take(line));
    this.#parts.multiLine?.flush((line) => this.#collect(line));
    this.#deliver();
  }

  #confirm(): void {
    if (this.#unconfirmed.length === 0) return;
    let confirmed = Number.POSITIVE_INFINITY;
    for (const sink of this.#parts.sinks) confirmed = Math.min(confirmed, sink.confirmed());
    let position: LogPosition | undefined;
    while (this.#unconfirmed.length > 0 && (this.#unconfirmed[0]?.batch ?? 0) <= confirmed) position = this.#unconfirmed.shift()?.position;
    if (position !== undefined) this.#parts.onPosition(position);
  }

  #sinkProblem(): string | undefined {
    for (const sink of this.#parts.sinks) {
      const { problem } = sink.statistics();
      if (problem !== undefined) return problem;
    }
    return undefined;
  }

  #say(problem: string | undefined): void {
    if (problem === this.#problem) return;
    this.#problem = problem;
    this.#parts.onProblem(problem);
  }
}
