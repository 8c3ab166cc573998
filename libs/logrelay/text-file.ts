import { closeSync, fstatSync, readdirSync, readSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { BATCH_BYTES as FILE_BATCH } from "./file-follower.ts";
import type { Line } from "./line.ts";
import { NotRegularError, openRegular } from "./regular-file.ts";
import { listSegments } from "./segments.ts";
import { PlainDecoder } from "./text-decoder.ts";
import type { StreamName, TextPlace } from "./types.ts";

/** How much of a stream is read and relayed at a time: of both together no more than of a container's log. */
const BATCH_BYTES = FILE_BATCH / 2;
/** Enough of the bytes before a place to tell a file that was cut off and filled again from the one that was read. */
const TAIL_BYTES = 64;

/** So many files of a rotation are looked at: the sandbox's owner may make any number of them. */
const MAX_FILES = 100;

interface OpenFile {
  fd: number;
  device: string;
  inode: string;
  size: number;
  /** It has another name: it may be a file that the task must not read. */
  linked: boolean;
}

/** Opens a file in a sandbox; undefined for what is not there, may not be read, or is no regular file. */
function openSandboxFile(path: string): OpenFile | undefined {
  try {
    const { fd, stat } = openRegular(path);
    return { fd, device: String(stat.dev), inode: String(stat.ino), size: Number(stat.size), linked: stat.nlink > 1n };
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    if (error instanceof NotRegularError || ["ENOENT", "EACCES", "ENOTDIR"].includes(code)) return undefined;
    throw error;
  }
}

/**
 * Where the output of a process begins that is about to be started with this file as its own: at the file's present end.
 * Undefined where the path does not name the expected file.
 */
export function endOfSandboxFile(path: string, expected: { device: string; inode: string }): TextPlace | undefined {
  const file = openSandboxFile(path);
  if (file === undefined) return undefined;
  try {
    if (file.device !== expected.device || file.inode !== expected.inode) return undefined;
    return { inode: file.inode, offset: file.size, tail: before(file.fd, file.size).toString("base64") };
  } finally {
    closeSync(file.fd);
  }
}

export interface TextFileOptions {
  stream: StreamName;
  path: string;
  maxLineBytes: number;
  /** Goes on there, in the file of that inode. Without it: from the beginning of the oldest part under this name. */
  place?: TextPlace;
  onGap: (reason: string) => void;
}

/**
 * One stream's file in a sandbox. Its writer holds it open for good, so it is known by its inode, whatever a rotation calls it: one
 * that was renamed is read on, one that was cut off after it had been copied is read on in the copy and then from its beginning.
 *
 * INVARIANTS: lines come in the order in which they were written; a file that is not the one that was read before (it was cut off) is
 * noticed by the bytes before the place.
 */
export class TextFile {
  readonly stream: StreamName;
  readonly #options: TextFileOptions;
  readonly #decoder: PlainDecoder;
  /** What is to be read, in order; the last one is the file that is written to, the others are copies of what it held. */
  #parts: number[] = [];
  #inode = "";
  #offset = 0;
  #tail: Buffer = Buffer.alloc(0);
  /** The place of an unfinished line that began in an older part. */
  #carried: TextPlace | undefined;
  readonly #buffer = Buffer.allocUnsafeSlow(TAIL_BYTES + BATCH_BYTES);

  constructor(options: TextFileOptions) {
    this.stream = options.stream;
    this.#options = options;
    this.#decoder = new PlainDecoder(options.stream, options.maxLineBytes);
  }

  /** Throws where the sandbox itself cannot be read. A file that is not there is a gap where some of it had been read before. */
  open(): void {
    const { place, onGap } = this.#options;
    if (place === undefined) {
      const files = this.#segments();
      this.#parts = files.map(({ fd }) => fd);
      this.#inode = files.at(-1)?.inode ?? "";
      return;
    }
    this.#inode = place.inode;
    this.#offset = place.offset;
    this.#tail = Buffer.from(place.tail, "base64");
    const file = this.#find(place.inode);
    if (file !== undefined) this.#parts = [file.fd];
    else onGap(`the sandbox's ${this.stream} was removed before it was read to its end`);
  }

  /** What to watch for changes; undefined where there is nothing to read. */
  get watchable(): string | undefined {
    const fd = this.#parts.at(-1);
    return fd === undefined ? undefined : `/proc/self/fd/${fd}`;
  }

  /** Reads one batch. False when there is nothing new. */
  read(emit: (line: Line) => void): boolean {
    for (;;) {
      const fd = this.#parts[0];
      if (fd === undefined) return false;
      const length = this.#tail.length;
      const read = readSync(fd, this.#buffer, 0, length + BATCH_BYTES, this.#offset - length);
      if (this.#parts.length === 1 && (read < length || !this.#buffer.subarray(0, length).equals(this.#tail))) {
        this.#wasCutOff(emit);
      } else if (read > length) {
        this.#decode(length, read, emit);
        return true;
      } else if (this.#parts.length === 1) return false;
      else this.#nextPart();
    }
  }

  flush(emit: (line: Line) => void): void {
    this.#decoder.flush(emit);
  }

  /** Where to go on after everything that was emitted; an unfinished line is read again. */
  place(): TextPlace {
    if (this.#carried !== undefined) return this.#carried;
    const offset = this.#decoder.pending(this.stream) ?? this.#offset;
    const [fd] = this.#parts;
    const tail = offset === this.#offset || fd === undefined ? this.#tail : before(fd, offset);
    return { inode: this.#inode, offset, tail: tail.toString("base64") };
  }

  /** Bytes that are there and not read yet. */
  lag(): number {
    return Math.max(0, this.#parts.reduce((sum, fd) => sum + fstatSync(fd).size, 0) - this.#offset);
  }

  close(): void {
    for (const fd of this.#parts.splice(0)) closeSync(fd);
  }

  /** By the inode: a rotation may have given it any name that begins as it did. */
  #find(inode: string): OpenFile | undefined {
    const { path } = this.#options;
    const own = basename(path);
    const others = readdirSync(dirname(path)).filter((name) => name.startsWith(own) && name !== own);
    for (const name of [own, ...others.sort().slice(0, MAX_FILES)]) {
      const file = openSandboxFile(join(dirname(path), name));
      if (file?.inode === inode) return file;
      if (file !== undefined) closeSync(file.fd);
    }
    return undefined;
  }

  /** The files of the rotation that can be read as they are, oldest first: `stdout-20261121`, `stdout.2`, `stdout.1`, `stdout`. */
  #segments(): OpenFile[] {
    const { path } = this.#options;
    const dated = readdirSync(dirname(path)).filter((name) => name.startsWith(`${basename(path)}-`));
    const all = [...dated.sort().map((name) => join(dirname(path), name)), ...listSegments(path)];
    const plain = all.filter((name) => !name.endsWith(".gz"));
    const files: OpenFile[] = [];
    try {
      for (const name of plain.slice(-MAX_FILES)) {
        const file = openSandboxFile(name);
        if (file === undefined) continue;
        // The one that is known by its inode is the process's own output.
        if (file.linked && file.inode !== this.#inode) closeSync(file.fd);
        else files.push(file);
      }
    } catch (error) {
      for (const { fd } of files) closeSync(fd);
      throw error;
    }
    return files;
  }

  #decode(from: number, to: number, emit: (line: Line) => void): void {
    this.#decoder.decode(this.#buffer.subarray(from, to), this.#offset, (line) => {
      this.#carried = undefined;
      emit(line);
    });
    this.#offset += to - from;
    this.#tail = Buffer.from(this.#buffer.subarray(Math.max(0, to - TAIL_BYTES), to));
  }

  #nextPart(): void {
    if (this.#decoder.pending(this.stream) !== undefined) this.#carried = this.place();
    closeSync(this.#parts.shift() as number);
    this.#offset = 0;
    this.#tail = Buffer.alloc(0);
  }

  /** The file was emptied: what it held and was not read yet is in a copy, if the rotation made one. */
  #wasCutOff(emit: (line: Line) => void): void {
    const copies = this.#copies();
    if (copies.length > 0) {
      this.#parts.unshift(...copies);
      return;
    }
    this.#options.onGap(`the sandbox's ${this.stream} was cut off before it was read to its end`);
    this.#decoder.flush(emit);
    this.#carried = undefined;
    this.#offset = 0;
    this.#tail = Buffer.alloc(0);
  }

  /** The copy that the place is in, and those that were made after it. */
  #copies(): number[] {
    const files = this.#segments();
    const others = files.filter(({ inode }) => inode !== this.#inode);
    const first = others.findIndex(
      ({ fd, size }) => size >= this.#offset && before(fd, this.#offset, this.#tail.length).equals(this.#tail),
    );
    const wanted = first < 0 ? [] : others.slice(first);
    for (const file of files) if (!wanted.includes(file)) closeSync(file.fd);
    return wanted.map(({ fd }) => fd);
  }
}

/** The last bytes before a place. */
function before(fd: number, offset: number, count = TAIL_BYTES): Buffer {
  const start = Math.max(0, offset - count);
  const target = Buffer.alloc(offset - start);
  return target.subarray(0, readSync(fd, target, 0, target.length, start));
}
