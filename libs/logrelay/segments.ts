import { closeSync, constants, fstatSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { gunzipSync } from "node:zlib";

/** More than this is not unpacked into memory; its lines are a counted gap. */
const MAX_UNPACKED = 512 * 1024 * 1024;

/** One file of a rotated log, open or unpacked. It stays readable when its name is gone. */
export class Segment {
  readonly name: string;
  readonly inode: string;
  readonly #fd: number | undefined;
  readonly #unpacked: Buffer | undefined;

  private constructor(name: string, inode: string, fd: number | undefined, unpacked: Buffer | undefined) {
    this.name = name;
    this.inode = inode;
    this.#fd = fd;
    this.#unpacked = unpacked;
  }

  /** Throws ENOENT when rotation was faster, and what zlib says of a file that is being packed. */
  static open(path: string): Segment {
    if (path.endsWith(".gz")) return new Segment(path, "", undefined, gunzipSync(readFileSync(path), { maxOutputLength: MAX_UNPACKED }));
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const { ino } = fstatSync(fd, { bigint: true });
    return new Segment(path, String(ino), fd, undefined);
  }

  /** A packed file never changes; the others may grow until a newer one exists. */
  get packed(): boolean {
    return this.#unpacked !== undefined;
  }

  size(): number {
    return this.#unpacked?.length ?? (this.#fd === undefined ? 0 : fstatSync(this.#fd).size);
  }

  /** Reads into `target` from `position`; returns the bytes read. */
  read(target: Buffer, position: number): number {
    if (this.#unpacked !== undefined)
      return this.#unpacked.copy(target, 0, position, Math.min(this.#unpacked.length, position + target.length));
    return this.#fd === undefined ? 0 : readSync(this.#fd, target, 0, target.length, position);
  }

  /** The last bytes before `position`. */
  before(position: number, count: number): Buffer {
    const start = Math.max(0, position - count);
    const target = Buffer.alloc(position - start);
    return target.subarray(0, this.read(target, start));
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
  }
}

/** The files of a rotated log, oldest first: `log.3.gz`, `log.2`, `log.1`, `log`. Where a number exists in both forms, the plain one is whole. */
export function listSegments(path: string): string[] {
  const name = basename(path);
  const numbered = new Map<number, string>();
  for (const entry of readdirSync(dirname(path))) {
    if (!entry.startsWith(`${name}.`)) continue;
    const match = /^(\d+)(\.gz)?$/.exec(entry.slice(name.length + 1));
    if (match === null) continue;
    const number = Number(match[1]);
    if (match[2] === undefined || !numbered.has(number)) numbered.set(number, entry);
  }
  const old = [...numbered].sort(([a], [b]) => b - a).map(([, entry]) => join(dirname(path), entry));
  return [...old, path];
}
