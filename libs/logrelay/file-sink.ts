import { closeSync, constants, fstatSync, ftruncateSync, lstatSync, openSync, renameSync, writeSync } from "node:fs";
import { type Line, rawBytes } from "./line.ts";
import { Outstanding } from "./outstanding.ts";
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

/** Writes lines to files at once, or has a worker write them: a batch is confirmed when that is done. */
export class FileSink implements Sink {
  readonly name: string;
  readonly #target: (stream: StreamName) => ByteTarget;
  readonly #format: LineFormatter | undefined;
  readonly #counters: SinkCounters;
  readonly #writers = new Map<ByteTarget, FrameWriter>();
  /** What a worker has to write. */
  readonly #waiting = new Outstanding<{ lines: number }>();

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
        else this.#wait(taken, batch, bytes.length, ends.length);
        this.#counters.problem = undefined;
      } catch (error) {
        this.#counters.drop("cannot be written", ends.length);
        this.#counters.problem = (error as Error).message;
      }
    }
  }

  confirmed(): number {
    return this.#waiting.confirmed();
  }

  room(): Promise<void> {
    return this.#waiting.room(() => true);
  }

  drained(signal: AbortSignal): Promise<void> {
    return this.#waiting.allSettled(() => !signal.aborted);
  }

  progress(): Promise<void> {
    return this.#waiting.progress();
  }

  close(): void {
    for (const target of this.#writers.keys()) target.close();
    for (const { lines } of this.#waiting.items()) this.#counters.drop("not delivered in time", lines);
    this.#waiting.clear();
  }

  statistics(): SinkStatistics {
    return this.#counters.statistics(this.#waiting.bytes);
  }

  #wait(taken: Promise<void>, batch: number, bytes: number, lines: number): void {
    const item = { lines };
    this.#waiting.add(item, batch, bytes);
    void taken.then(() => {
      if (this.#waiting.settle(item)) this.#counters.sent += lines;
    });
  }
}

const LINE_FEED = Buffer.from("\n");

function writeRaw(line: Line, into: FrameWriter): void {
  into.write(rawBytes(line));
  into.write(LINE_FEED);
}
