import { BATCH_BYTES } from "./file-follower.ts";
import { type Follower, readRest } from "./follower.ts";
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
  multiLine?: MultiLine<Place>;
  /** A new confirmed position; `held` is to be called when it is where it outlives this thread. */
  onPosition: (position: LogPosition, held: () => void) => void;
  /** Positions are to go out now: reading waits for them. */
  hurry: () => void;
  onProblem: (problem: string | undefined) => void;
  /** What came of it in the end. */
  onClosed: (statistics: TaskLogStatistics) => void;
  /** Some output is lost; the owner tells it and counts it with {@link Pipeline.gap}. */
  onGap: (reason: string) => void;
}

/** A place in the source, undefined in the middle of a line; and how much the sinks were given before it. */
export interface Place {
  position: LogPosition | undefined;
  given: number;
}

interface Unconfirmed {
  batch: number;
  position: LogPosition;
  given: number;
}

/** How many batches may wait for their confirmation before reading goes on without recording more positions. */
const MAX_UNCONFIRMED = 256;
/** Bytes of lines that sinks may have been given beyond the position that is held: what may come twice after a crash. */
const MAX_UNHELD_BYTES = 64 * 1024;
const LOOK_MS = 50;
/** At a task's end a receiver that takes nothing for so long no longer holds up reading: what is read waits in its queue, the rest would be lost. */
const END_PATIENCE_MS = 1_000;
const UNREAD = "the task ended, and its output could not be read to the end in time";

/**
 * One task's way from its source to its sinks: reads a batch, gives it to every sink, waits for room, and confirms the position
 * behind the last batch that every sink has delivered.
 *
 * INVARIANT: no batch is given to the sinks while, with it, more than {@link MAX_UNHELD_BYTES} would lie beyond the newest position
 * that is held, unless one line alone is longer, or a sink has made no progress for so long that it does not count any more.
 */
export class Pipeline {
  readonly #parts: PipelineParts;
  readonly #running: Promise<void>;
  #batch = 0;
  #unconfirmed: Unconfirmed[] = [];
  /** Bytes of lines that the sinks were given; how many of them lie before the newest position told, and before the newest held. */
  #given = 0;
  #told = 0;
  #held = 0;
  #wakeHeld: () => void = () => {};
  #limit: AbortSignal | undefined;
  #stopping = false;
  #draining = false;
  /** Sinks that nothing waits for any more, as the end is near. */
  readonly #stuck = new Set<Sink>();
  #leaveRoom: () => void = () => {};
  #closed = false;
  #lines = 0;
  #bytes = 0;
  #cut = 0;
  #gaps = 0;
  #lastGap: string | undefined;
  #problem: string | undefined;
  #collected: Line[] = [];
  /** Before the batch that is being read. */
  #before: Place = { position: undefined, given: 0 };
  #noted: Place | undefined;

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
    this.#limit = signal;
    source.wake();
    const aborted = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    const lookAgain = setInterval(() => source.wake(), 50);
    const patience = this.#watchSinks();
    if (drain && !signal.aborted) await Promise.race([this.#running, aborted]);
    clearInterval(lookAgain);
    if (drain && !signal.aborted) {
      const rest = readRest(source, signal, async () => {
        while (!signal.aborted && (await this.#step())) await new Promise((resolve) => setImmediate(resolve));
      });
      await Promise.race([rest.catch((error: Error) => this.#say(error.message)), aborted]);
      this.#flush();
      await Promise.race([Promise.all(sinks.map((sink) => sink.drained(signal))), aborted]);
      this.#confirm();
    }
    clearInterval(patience);
    if (drain && signal.aborted && ((source.lag() ?? 0) > 0 || source.incomplete === true)) this.#parts.onGap(UNREAD);
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
    const { source } = this.#parts;
    await this.#untilHeld();
    if (this.#closed || (this.#stopping && !this.#draining)) return false;
    const { multiLine } = this.#parts;
    if (multiLine !== undefined) this.#before = this.#place();
    const some = source.read((line) => this.#take(line));
    if (!some) return false;
    // One stream's event does not wait for the other to be quiet.
    multiLine?.expire((line) => this.#collect(line));
    this.#deliver();
    // Everything before the oldest event that is still held was given to the sinks.
    this.#note(multiLine?.oldest?.place ?? this.#place());
    this.#confirm();
    await this.#room();
    this.#confirm();
    return true;
  }

  /** Waits until all sinks that take anything have room. */
  async #room(): Promise<void> {
    if (this.#stopping && !this.#draining) return;
    const room = Promise.all(this.#parts.sinks.filter((sink) => !this.#stuck.has(sink)).map((sink) => sink.room()));
    await new Promise<unknown>((resolve) => {
      this.#leaveRoom = () => resolve(undefined);
      void room.then(resolve);
    });
  }

  /** Finds sinks that deliver nothing from one look to the next. */
  #watchSinks(): NodeJS.Timeout {
    const confirmed = new Map<Sink, number>();
    return setInterval(() => {
      for (const sink of this.#parts.sinks) {
        const now = sink.confirmed();
        if (now < this.#batch && now === confirmed.get(sink)) this.#stuck.add(sink);
        else this.#stuck.delete(sink);
        confirmed.set(sink, now);
      }
      if (this.#stuck.size === 0) return;
      this.#leaveRoom();
      this.#wakeHeld();
    }, END_PATIENCE_MS);
  }

  async #idle(): Promise<void> {
    const { source, multiLine } = this.#parts;
    this.#confirm();
    if (this.#unconfirmed.length === 0 && multiLine?.oldest === undefined) return source.wait();
    // Something is still on its way: look at it again, whatever the source does.
    const look = setTimeout(() => source.wake(), 20);
    await source.wait();
    clearTimeout(look);
    multiLine?.expire((line) => this.#collect(line));
    if (this.#collected.length > 0) this.#deliver();
    if (multiLine !== undefined) this.#note(multiLine.oldest?.place ?? this.#place());
    this.#say(this.#sinkProblem());
  }

  #place(): Place {
    return { position: this.#parts.source.position(), given: this.#given };
  }

  /** The sinks were given everything before this place. */
  #note(place: Place): void {
    const { position, given } = place;
    if (position === undefined || place === this.#noted) return;
    this.#noted = place;
    this.#unconfirmed.push({ batch: this.#batch, position, given });
    if (this.#unconfirmed.length > MAX_UNCONFIRMED) this.#unconfirmed.splice(MAX_UNCONFIRMED / 2, 1);
  }

  /** Waits until another batch may be given to the sinks. */
  async #untilHeld(): Promise<void> {
    const over = (): boolean =>
      this.#closed || this.#stuck.size > 0 || (this.#stopping && (!this.#draining || this.#limit?.aborted === true));
    while (this.#given - this.#held + BATCH_BYTES > MAX_UNHELD_BYTES && !over()) {
      this.#confirm(true);
      if (this.#given - this.#held + BATCH_BYTES <= MAX_UNHELD_BYTES) return;
      // A source without positions has nothing to wait for.
      if (this.#unconfirmed.length === 0 && this.#told === this.#held) return;
      await this.#changed();
    }
  }

  /** A position is held, a sink has delivered something, or a moment is over. */
  async #changed(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const some = new Promise<void>((resolve) => {
      this.#wakeHeld = resolve;
      timer = setTimeout(resolve, LOOK_MS);
    });
    const sinks = this.#unconfirmed.length === 0 ? [] : this.#parts.sinks.filter((sink) => sink.confirmed() < this.#batch);
    await Promise.race([some, ...sinks.map((sink) => sink.progress())]);
    clearTimeout(timer);
  }

  #take(line: Line): void {
    this.#lines += 1;
    this.#bytes += line.end - line.start;
    if (this.#parts.multiLine !== undefined) this.#parts.multiLine.take(line, this.#before, (event) => this.#collect(event));
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
    // After its end a task's sinks get nothing more: a joined event may have waited for it.
    if (lines.length === 0 || this.#closed) return;
    for (const line of lines) this.#given += line.end - line.start + 1;
    for (const sink of this.#parts.sinks) sink.write(lines, this.#batch);
  }

  #flush(): void {
    this.#parts.source.flush((line) => this.#take(line));
    this.#parts.multiLine?.flush((line) => this.#collect(line));
    this.#deliver();
  }

  /** Tells the newest position that every sink has delivered; `urgent` also has it sent on at once, and whatever was told before. */
  #confirm(urgent = false): void {
    // What the sinks have dropped at their end is not delivered.
    if (this.#closed) return;
    let confirmed = Number.POSITIVE_INFINITY;
    for (const sink of this.#parts.sinks) confirmed = Math.min(confirmed, sink.confirmed());
    let last: Unconfirmed | undefined;
    while (this.#unconfirmed.length > 0 && (this.#unconfirmed[0]?.batch ?? 0) <= confirmed) last = this.#unconfirmed.shift();
    if (last === undefined) {
      if (urgent && this.#told > this.#held) this.#parts.hurry();
      return;
    }
    const { position, given } = last;
    this.#told = Math.max(this.#told, given);
    this.#parts.onPosition(position, () => {
      this.#held = Math.max(this.#held, given);
      this.#wakeHeld();
    });
    if (urgent) this.#parts.hurry();
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
