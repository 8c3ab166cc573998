import { closeSync, constants, fstatSync, ftruncateSync, lstatSync, openSync, renameSync, writeSync } from "node:fs";
import { type Line, rawBytes } from "./line.ts";
import { FrameWriter, type LineFormatter } from "./records.ts";
import { type Sink, SinkCounters } from "./sink.ts";
import type { SinkStatistics, StreamName } from "./types.ts";

/** A file that is only ever appended to and, over `maxBytes`, rotated (`name.1` is the newest old one). Symbolic links are refused. */
export class AppendFile {
  readonly #path: string;
  readonly #maxBytes: number;
  readonly #keep: number;
  #fd: number | undefined;
  #size = 0;

  constructor(path: string, maxBytes = 0, keep = 1) {
    this.#path = path;
    this.#maxBytes = maxBytes;
    this.#keep = keep;
  }

  /** Writes all of it, or throws with nothing known about how much was written. */
  append(bytes: Buffer): undefined {
    if (this.#fd !== undefined && this.#maxBytes > 0 && this.#size + bytes.length > this.#maxBytes && this.#size > 0) this.#rotate();
    this.#fd ??= this.#open();
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at, bytes.length - at);
    this.#size += bytes.length;
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #open(): number {
    // A task may have put a FIFO there: without O_NONBLOCK the open would wait for a reader for ever.
    const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const fd = openSync(this.#path, flags, 0o644);
    const stat = fstatSync(fd);
    // A hard link would have us write to a file that the task itself must not write to.
    if (!stat.isFile() || stat.nlink > 1) {
      closeSync(fd);
      throw new Error(`${this.#path} ${stat.isFile() ? "has another name (a hard link)" : "is no file"}`);
    }
    this.#size = stat.size;
    return fd;
  }

  /** What cannot be renamed, because the task put a folder in its way, is written on. */
  #rotate(): void {
    if (this.#keep === 0) {
      ftruncateSync(this.#fd as number);
      this.#size = 0;
      return;
    }
    this.close();
    try {
      for (let number = this.#keep - 1; number >= 1; number--) {
        if (lstatSync(`${this.#path}.${number}`, { throwIfNoEntry: false }) !== undefined)
          renameSync(`${this.#path}.${number}`, `${this.#path}.${number + 1}`);
      }
      renameSync(this.#path, `${this.#path}.1`);
    } catch {
      this.#fd = this.#open();
    }
  }
}

/** Where the bytes of one stream go. */
export interface ByteTarget {
  /** Returns nothing when they are written, else a promise that resolves when they are; throws when they are not taken. */
  append(bytes: Buffer): Promise<void> | undefined;
  close(): void;
}

/** One more batch is taken while less than this waits for a worker to write it. */
const HIGH_WATER = 64 * 1024;
/** A worker that takes nothing for this long no longer holds up reading nor the position. */
const PATIENCE_MS = 5_000;
const LOOK_MS = 50;

/** Writes lines to files at once, or has a worker write them: a batch is confirmed when that is done. */
export class FileSink implements Sink {
  readonly name: string;
  readonly #target: (stream: StreamName) => ByteTarget;
  readonly #format: LineFormatter | undefined;
  readonly #counters: SinkCounters;
  readonly #writers = new Map<ByteTarget, FrameWriter>();
  readonly #waiting = new Set<{ batch: number; bytes: number; lines: number }>();
  #queued = 0;
  #progress = performance.now();
  #wake: Array<() => void> = [];

  /** Without a formatter lines are written as they are, with their line feed. */
  constructor(type: "sandbox" | "file", name: string, target: (stream: StreamName) => ByteTarget, format?: LineFormatter) {
    this.name = name;
    this.#target = target;
    this.#format = format;
    this.#counters = new SinkCounters(type, name);
  }

  write(lines: readonly Line[], batch: number): void {
    for (const line of lines) {
      const target = this.#target(line.stream);
      let writer = this.#writers.get(target);
      if (writer === undefined) {
        writer = new FrameWriter();
        this.#writers.set(target, writer);
      }
      if (this.#format !== undefined) this.#format(line, writer);
      else writeRaw(line, writer);
      writer.end();
    }
    for (const [target, writer] of this.#writers) {
      if (writer.count === 0) continue;
      const { bytes, ends } = writer.take();
      try {
        const taken = target.append(bytes);
        if (taken === undefined) this.#counters.sent += ends.length;
        else this.#wait(taken, { batch, bytes: bytes.length, lines: ends.length });
        this.#counters.problem = undefined;
      } catch (error) {
        this.#counters.drop("cannot be written", ends.length);
        this.#counters.problem = (error as Error).message;
      }
    }
  }

  confirmed(): number {
    const first = this.#waiting.values().next().value;
    return first === undefined || this.#stuck() ? Number.POSITIVE_INFINITY : first.batch - 1;
  }

  async room(): Promise<void> {
    while (this.#queued >= HIGH_WATER && !this.#stuck()) await this.progress();
  }

  async drained(signal: AbortSignal): Promise<void> {
    while (this.#waiting.size > 0 && !signal.aborted) await this.progress();
  }

  progress(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, LOOK_MS);
      this.#wake.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  close(): void {
    for (const target of this.#writers.keys()) target.close();
    for (const { lines } of this.#waiting) this.#counters.drop("not delivered in time", lines);
    this.#waiting.clear();
    this.#queued = 0;
    this.#changed();
  }

  statistics(): SinkStatistics {
    return this.#counters.statistics(this.#queued);
  }

  #wait(taken: Promise<void>, entry: { batch: number; bytes: number; lines: number }): void {
    if (this.#waiting.size === 0) this.#progress = performance.now();
    this.#waiting.add(entry);
    this.#queued += entry.bytes;
    void taken.then(() => {
      if (!this.#waiting.delete(entry)) return;
      this.#queued -= entry.bytes;
      this.#counters.sent += entry.lines;
      this.#progress = performance.now();
      this.#changed();
    });
  }

  #stuck(): boolean {
    return this.#waiting.size > 0 && performance.now() - this.#progress > PATIENCE_MS;
  }

  #changed(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}

const LINE_FEED = Buffer.from("\n");

function writeRaw(line: Line, into: FrameWriter): void {
  into.write(rawBytes(line));
  into.write(LINE_FEED);
}
