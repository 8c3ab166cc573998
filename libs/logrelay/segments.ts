import { closeSync, fstatSync, readdirSync, readSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { NotRegularError, openRegular } from "./regular-file.ts";

/** More than this is not unpacked into memory; its lines are a counted gap. */
const MAX_UNPACKED = 512 * 1024 * 1024;
/** The same of what a task may have packed: it unpacks on the thread that serves all tasks. */
const MAX_FOREIGN_UNPACKED = 16 * 1024 * 1024;
/** Whoever writes the log may put any number of files beside it: only so many of the newest are looked at. */
const MAX_SEGMENTS = 1000;
/** Where gzip says how much is packed. */
const TRAILER_BYTES = 4;

/**
 * One file of a rotated log, held open. It stays readable when its name is gone. A packed one is unpacked when it is first read.
 *
 * INVARIANT: only regular files are read, and no symbolic link is followed: a task can put anything into its sandbox, and this
 * process may read what the task may not.
 */
export class Segment {
  readonly name: string;
  /** Empty for a packed file: its inode says nothing of the one that was packed. */
  readonly inode: string;
  readonly packed: boolean;
  /** Why a packed file cannot be read; it counts as empty then. */
  problem: string | undefined;
  readonly #fd: number;
  readonly #mostUnpacked: number;
  #unpacked: Buffer | undefined;

  private constructor(name: string, inode: string, fd: number, foreign: boolean) {
    const packed = name.endsWith(".gz");
    this.name = name;
    this.inode = packed ? "" : inode;
    this.packed = packed;
    this.#fd = fd;
    this.#mostUnpacked = foreign ? MAX_FOREIGN_UNPACKED : MAX_UNPACKED;
  }

  /**
   * Throws ENOENT when rotation was faster, {@link NotRegularError} for anything but a regular file. Of a `foreign` one, which a task
   * may have put there, less is unpacked, and it must have no other name: a hard link to a file that the task must not read.
   */
  static open(path: string, foreign = false): Segment {
    const { fd, stat } = openRegular(path);
    if (!foreign || stat.nlink <= 1n) return new Segment(path, String(stat.ino), fd, foreign);
    closeSync(fd);
    throw new NotRegularError(path, "has another name (a hard link)");
  }

  size(): number {
    if (!this.packed) return fstatSync(this.#fd).size;
    if (this.problem !== undefined) return 0;
    if (this.#unpacked !== undefined) return this.#unpacked.length;
    const trailer = Buffer.alloc(TRAILER_BYTES);
    const at = fstatSync(this.#fd).size - TRAILER_BYTES;
    return at >= 0 && readSync(this.#fd, trailer, 0, TRAILER_BYTES, at) === TRAILER_BYTES ? trailer.readUInt32LE() : 0;
  }

  /** When it was written to last, milliseconds since the epoch. */
  modifiedMs(): number {
    return fstatSync(this.#fd).mtimeMs;
  }

  /** Nothing but this reader keeps it on the disk. */
  deleted(): boolean {
    return fstatSync(this.#fd).nlink === 0;
  }

  /** Reads into `target` from `position`; returns the bytes read. */
  read(target: Buffer, position: number): number {
    if (!this.packed) return readSync(this.#fd, target, 0, target.length, position);
    const all = this.#content();
    // Its end may be nearer than it says itself.
    return position >= all.length ? 0 : all.copy(target, 0, position, Math.min(all.length, position + target.length));
  }

  /** The last bytes before `position`. */
  before(position: number, count: number): Buffer {
    const start = Math.max(0, position - count);
    const target = Buffer.alloc(position - start);
    return target.subarray(0, this.read(target, start));
  }

  /** Gives back the memory of a packed file until it is read again. */
  release(): void {
    this.#unpacked = undefined;
  }

  close(): void {
    this.release();
    closeSync(this.#fd);
  }

  #content(): Buffer {
    if (this.problem !== undefined) return Buffer.alloc(0);
    if (this.#unpacked !== undefined) return this.#unpacked;
    try {
      const { size } = fstatSync(this.#fd);
      const most = this.#mostUnpacked;
      if (size > most) throw new Error(`it has more than ${most} bytes`);
      const packed = Buffer.allocUnsafeSlow(size);
      const length = readSync(this.#fd, packed, 0, size, 0);
      this.#unpacked = gunzipSync(packed.subarray(0, length), { maxOutputLength: most });
      return this.#unpacked;
    } catch (error) {
      this.problem = `${this.name} cannot be unpacked: ${(error as Error).message}`;
      return Buffer.alloc(0);
    }
  }
}

/** The files of a rotated log, oldest first: `log.3.gz`, `log.2`, `log.1`, `log`. Where a number exists in both forms, the plain one is whole. */
export function listSegments(path: string): string[] {
  const name = basename(path);
  const numbered = new Map<number, string>();
  for (const entry of readdirSync(dirname(path))) {
    if (!entry.startsWith(`${name}.`)) continue;
    const match = /^(\d{1,9})(\.gz)?$/.exec(entry.slice(name.length + 1));
    if (match === null) continue;
    const number = Number(match[1]);
    if (match[2] === undefined || !numbered.has(number)) numbered.set(number, entry);
  }
  const old = [...numbered].sort(([a], [b]) => b - a).map(([, entry]) => join(dirname(path), entry));
  return [...old.slice(-MAX_SEGMENTS), path];
}
