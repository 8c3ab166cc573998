import { lstatSync } from "node:fs";
import type { Decoder } from "./decoder.ts";
import { comparableTime, type Line, timeMs } from "./line.ts";
import { NotRegularError } from "./regular-file.ts";
import { listSegments, Segment } from "./segments.ts";
import type { LogPosition } from "./types.ts";

/** How much is read and relayed at a time. */
export const BATCH_BYTES = 32 * 1024;
/** A record of 16 KiB of control characters is six times as long; attrs come on top. */
const MAX_RECORD = 8 * 1024 * 1024;
/** Long enough for `"time":"…"}` of a json-file record, so that the tail also tells the time. */
const TAIL_BYTES = 48;
const SCAN_ATTEMPTS = 20;
/** Files that Docker deleted and a slow reader still holds take room on the disk, which nobody else could give back. */
const MAX_DELETED_BYTES = 1024 * 1024 * 1024;
/** A file's time is that of its file system, which may tick in coarse steps. */
const CLOCK_SLACK_MS = 5_000;
/** Less than this is read through rather than searched. */
const SEARCHED_BYTES = 1024 * 1024;
const PROBE_BYTES = 256 * 1024;
const OVERTAKEN = "the log was rotated faster than it could be read, and Docker deleted some of it";

export interface FileFollowerOptions {
  path: string;
  decoder: Decoder;
  position?: Extract<LogPosition, { kind: "file" }>;
  /** RFC 3339; older lines are left out. */
  since?: string;
  /** A task can put files under these names: see {@link Segment.open}. */
  foreign?: boolean;
  onGap: (reason: string) => void;
}

/**
 * Reads a rotated log file in batches, from a position or its oldest part on. Every file of the log that is newer than the one
 * being read is held open, so that neither rotation nor deletion takes lines away that were there when the reader last looked.
 *
 * INVARIANTS: lines come in the file's order; a record is emitted once per follower; a file that is not the one that was read
 * before (its inode came back, it was cut off) is noticed by the bytes before the offset.
 */
export class FileFollower {
  readonly #options: FileFollowerOptions;
  #chain: Segment[] = [];
  #offset = 0;
  #tail: Buffer = Buffer.alloc(0);
  #buffer = Buffer.allocUnsafeSlow(TAIL_BYTES + BATCH_BYTES);
  #skipUntil: string | undefined;
  #ahead: Extract<LogPosition, { kind: "file" }>["ahead"];
  #held: LogPosition | undefined;
  #heldInode = "";

  constructor(options: FileFollowerOptions) {
    this.#options = options;
    if (options.since !== undefined) this.#skipUntil = comparableTime(options.since);
  }

  /** Opens the log. Throws what the file system says (ENOENT, EACCES), and for anything but a regular file. */
  open(): void {
    const segments = this.#openAll(listSegments(this.#options.path));
    if (segments.length === 0) throw Object.assign(new Error(`${this.#options.path} cannot be opened`), { code: "ENOENT" });
    this.#chain = segments;
    const { position } = this.#options;
    if (position === undefined) return this.#skipOld();
    const tail = Buffer.from(position.tail, "base64");
    const index = segments.findIndex(
      (segment) => (segment.packed ? tail.length > 0 : segment.inode === position.inode) && matches(segment, position.offset, tail),
    );
    if (index >= 0) {
      this.#drop(index);
      this.#offset = position.offset;
      this.#tail = tail;
      this.#ahead = position.ahead;
      return;
    }
    this.#options.onGap("the log file was deleted or cut off before it was read to its end");
    const time = this.#options.decoder.lastTime(tail);
    if (time !== undefined) this.#skipUntil = `${comparableTime(time)}~`;
  }

  /** Bytes that are there and not read yet. */
  lag(): number {
    let bytes = -this.#offset;
    for (const segment of this.#chain) bytes += segment.size();
    return Math.max(0, bytes);
  }

  /** Where to go on after everything that was emitted so far; pieces of unfinished lines are read again. */
  position(): LogPosition | undefined {
    const segment = this.#chain[0];
    if (segment === undefined) return undefined;
    const { decoder } = this.#options;
    const out = decoder.pending("stdout");
    const err = decoder.pending("stderr");
    if (out === undefined && err === undefined) {
      this.#held = undefined;
      return { kind: "file", inode: segment.inode, offset: this.#offset, tail: this.#tail.toString("base64"), ...this.#aheadOf() };
    }
    // The unfinished line began in an older file: that place is kept until it ends.
    if (this.#held !== undefined && this.#heldInode !== segment.inode) return this.#held;
    const offset = Math.min(out ?? this.#offset, err ?? this.#offset);
    const other = out === undefined || (err !== undefined && out > err) ? "stdout" : "stderr";
    const ahead = { stream: other, offset: (other === "stdout" ? out : err) ?? this.#offset } as const;
    this.#heldInode = segment.inode;
    this.#held = { kind: "file", inode: segment.inode, offset, ahead, tail: segment.before(offset, TAIL_BYTES).toString("base64") };
    return this.#held;
  }

  /** Reads one batch. False when there is nothing new: the caller waits for a change. */
  read(emit: (line: Line) => void): boolean {
    this.#extend();
    for (;;) {
      const segment = this.#chain[0];
      if (segment === undefined) return false;
      if (this.#readSegment(segment, emit)) return true;
      if (segment.problem !== undefined) this.#options.onGap(segment.problem);
      if (this.#chain.length === 1) return false;
      // A newer file exists, so this one was complete before; what it got since the last look is read first.
      if (this.#readSegment(segment, emit)) return true;
      segment.close();
      this.#chain.shift();
      this.#offset = 0;
      this.#tail = Buffer.alloc(0);
      this.#ahead = undefined;
    }
  }

  close(): void {
    for (const segment of this.#chain) segment.close();
    this.#chain = [];
  }

  #readSegment(segment: Segment, emit: (line: Line) => void): boolean {
    const length = this.#tail.length;
    let read = segment.read(this.#buffer.subarray(0, length + BATCH_BYTES), this.#offset - length);
    if (read < length || !this.#buffer.subarray(0, length).equals(this.#tail)) {
      this.#options.onGap("the log file was cut off before it was read to its end");
      this.#offset = 0;
      this.#tail = Buffer.alloc(0);
      this.#ahead = undefined;
      return segment.size() > 0 && this.#readSegment(segment, emit);
    }
    let used = read > length ? this.#decode(length, read, emit) : 0;
    while (used === 0 && read === this.#buffer.length && this.#buffer.length < MAX_RECORD) {
      // One record is longer than the batch: a larger buffer is kept only for it.
      this.#buffer = Buffer.allocUnsafeSlow(this.#buffer.length * 4);
      read = segment.read(this.#buffer, this.#offset - length);
      used = this.#decode(length, read, emit);
    }
    if (used === 0) return false;
    this.#offset += used;
    this.#tail = Buffer.from(this.#buffer.subarray(Math.max(0, length + used - TAIL_BYTES), length + used));
    if (this.#buffer.length > TAIL_BYTES + BATCH_BYTES) this.#buffer = Buffer.allocUnsafeSlow(TAIL_BYTES + BATCH_BYTES);
    return true;
  }

  #decode(from: number, to: number, emit: (line: Line) => void): number {
    const skip = this.#skipUntil;
    const ahead = this.#ahead;
    const filtered =
      skip === undefined && ahead === undefined
        ? emit
        : (line: Line): void => {
            if (ahead !== undefined && line.stream === ahead.stream && line.offset < ahead.offset) return;
            if (skip !== undefined && line.time !== "") {
              if (comparableTime(line.time) < skip) return;
              this.#skipUntil = undefined;
            }
            emit(line);
          };
    return this.#options.decoder.decode(this.#buffer.subarray(from, to), this.#offset, filtered);
  }

  #aheadOf(): { ahead?: NonNullable<Extract<LogPosition, { kind: "file" }>["ahead"]> } {
    return this.#ahead !== undefined && this.#ahead.offset > this.#offset ? { ahead: this.#ahead } : {};
  }

  /** Takes up files that are newer than the newest one held. */
  #extend(): void {
    const newest = this.#chain.at(-1);
    if (newest === undefined) return;
    const inode = inodeOf(this.#options.path);
    // In the middle of a rotation, or the container was removed.
    if (inode === undefined) return;
    if (!newest.packed && inode === newest.inode) return;
    for (let attempt = 0; attempt < SCAN_ATTEMPTS; attempt++) {
      const opened = this.#openAll(listSegments(this.#options.path));
      const index = opened.findIndex((segment) => !segment.packed && segment.inode === newest.inode);
      const { from, whole } = index >= 0 ? { from: index + 1, whole: true } : this.#firstNewer(opened, newest);
      if (from === undefined) {
        for (const segment of opened) segment.close();
        continue;
      }
      for (const segment of opened.slice(0, from)) segment.close();
      this.#chain.push(...opened.slice(from));
      if (!whole) this.#options.onGap(OVERTAKEN);
      this.#giveUpOldest();
      return;
    }
  }

  /** Files that were written to last before `since` have nothing newer in them. */
  #skipOld(): void {
    const { since } = this.#options;
    if (since === undefined) return;
    const oldest = timeMs(since) - CLOCK_SLACK_MS;
    const first = this.#chain.findIndex((segment) => segment.modifiedMs() >= oldest);
    this.#drop(first < 0 ? this.#chain.length - 1 : first);
    this.#skipTo(comparableTime(new Date(oldest).toISOString()));
  }

  /** A log that Docker does not rotate may have any size, and all tasks share the thread: the place of a time is searched by halves. */
  #skipTo(time: string): void {
    const { decoder } = this.#options;
    const segment = this.#chain[0];
    if (segment === undefined || segment.packed || decoder.lastEnd === undefined) return;
    const probe = Buffer.allocUnsafeSlow(PROBE_BYTES);
    let from = 0;
    for (let to = segment.size(); to - from > SEARCHED_BYTES; ) {
      const middle = from + Math.trunc((to - from) / 2);
      const bytes = probe.subarray(0, segment.read(probe, middle));
      const end = decoder.lastEnd(bytes);
      const last = decoder.lastTime(bytes.subarray(0, end));
      if (last === undefined) break;
      if (comparableTime(last) < time) from = middle + end;
      else to = middle;
    }
    this.#offset = from;
    this.#tail = segment.before(from, TAIL_BYTES);
  }

  #giveUpOldest(): void {
    let deleted = 0;
    const oldest = this.#chain.findLastIndex((segment) => {
      if (segment.deleted()) deleted += segment.size();
      return deleted > MAX_DELETED_BYTES;
    });
    if (oldest < 0) return;
    this.#drop(Math.min(oldest + 1, this.#chain.length - 1));
    this.#offset = 0;
    this.#tail = Buffer.alloc(0);
    this.#ahead = undefined;
    this.#options.onGap(OVERTAKEN);
  }

  /**
   * The newest file held is not among them any more (packed or deleted): the first one whose content is later. Not `whole` where
   * another one may have come and gone in between, because not one file is left that is as old as the newest that was seen.
   */
  #firstNewer(opened: Segment[], newest: Segment): { from: number | undefined; whole: boolean } {
    const { decoder } = this.#options;
    const size = newest.size();
    const last = decoder.lastTime(newest.before(size, BATCH_BYTES));
    const tail = newest.before(size, TAIL_BYTES);
    const same = opened.findIndex((segment) => segment.packed && segment.size() === size && matches(segment, size, tail));
    for (const segment of opened) segment.release();
    if (same >= 0) return { from: same + 1, whole: true };
    if (last === undefined) return { from: opened.length === 0 ? undefined : opened.length - 1, whole: false };
    const later = opened.findIndex((segment) => {
      const time = decoder.lastTime(segment.before(segment.size(), BATCH_BYTES));
      segment.release();
      return time === undefined || comparableTime(time) > comparableTime(last);
    });
    return { from: later < 0 ? undefined : later, whole: later > 0 };
  }

  /** Opens all of them as of one moment: a rotation in between would leave one out or name one twice. */
  #openAll(paths: string[]): Segment[] {
    for (let attempt = 0; ; attempt++) {
      const opened: Segment[] = [];
      let whole = true;
      for (const path of attempt === 0 ? paths : listSegments(this.#options.path)) {
        try {
          opened.push(Segment.open(path, this.#options.foreign));
        } catch (error) {
          const foreign = error instanceof NotRegularError;
          // Beside the log lies something that is none: it is passed over.
          if (foreign && path !== this.#options.path) continue;
          if (foreign || (error as NodeJS.ErrnoException).code === "EACCES") {
            for (const segment of opened) segment.close();
            throw error;
          }
          whole = false;
        }
      }
      const live = opened.at(-1);
      const unchanged = live !== undefined && live.name === this.#options.path && inodeOf(this.#options.path) === live.inode;
      if ((whole && unchanged && distinct(opened)) || attempt === SCAN_ATTEMPTS) return opened;
      for (const segment of opened) segment.close();
    }
  }

  #drop(count: number): void {
    for (const segment of this.#chain.splice(0, count)) segment.close();
  }
}

function matches(segment: Segment, offset: number, tail: Buffer): boolean {
  if (segment.size() >= offset && segment.before(offset, tail.length).equals(tail)) return true;
  segment.release();
  return false;
}

/** Undefined where no regular file is. */
function inodeOf(path: string): string | undefined {
  const found = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return found?.isFile() ? String(found.ino) : undefined;
}

function distinct(segments: Segment[]): boolean {
  const inodes = segments.filter(({ packed }) => !packed).map(({ inode }) => inode);
  return new Set(inodes).size === inodes.length;
}
