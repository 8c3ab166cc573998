/**
 * What the Rust side gives (apps/worker/lean/src/natives.rs: change both together). Descriptors go by numbers of its own, which
 * are never used twice. A string where a number or bytes could be is an error's name, "EAGAIN" where nothing can be done yet.
 */
export interface Natives {
  connectUnix(path: string): number | string;
  connectTcp(address: string, port: number): number | string;
  /** Once writable: how connecting went; null or undefined when it did. */
  connectResult(id: number): string | null | undefined;
  /** null at the end. */
  read(id: number): ArrayBuffer | null | string;
  /** How many bytes were taken. */
  write(id: number, buffer: ArrayBufferLike, offset: number, length: number): number | string;
  watch(id: number, readable: boolean, writable: boolean): void;
  close(id: number): void;
  /** Waits until a descriptor that is watched for writing can be written, or so many milliseconds. */
  waitWritable(milliseconds: number): void;
  monotonicClock(): number;
  wallClock(): number;
  /** [pid, stdout, stderr] (descriptors, 0 for none), or why not. */
  spawn(options: NativeSpawn): [number, number, number] | string;
  kill(pid: number, signal: number): boolean;
  pid(): number;
  arguments(): string[];
  /** Names and values in turn. */
  environment(): string[];
  eraseEnvironment(name: string): boolean;
  setTitle(title: string): void;
  /** [kind, device, inode] */
  describe(fd: number): string[];
  writeWhole(fd: number, buffer: ArrayBufferLike, offset: number, length: number): void;
  exit(code: number): never;
  readTextFile(path: string): string | null | undefined;
  writeTextFile(path: string, text: string): boolean;
  listDirectory(path: string): string[];
  makeDirectory(path: string): boolean;
  removeDirectory(path: string): boolean;
  readLink(path: string): string | null | undefined;
  encodeUtf8(text: string): ArrayBuffer;
  decodeUtf8(buffer: ArrayBufferLike, offset: number, length: number): string;
  randomBytes(count: number): ArrayBuffer;
}

export interface NativeSpawn {
  argv: string[];
  environment: string[];
  directory: string;
  pipes: boolean;
  user: { uid: number; gid: number; groups: number[] } | null;
  limits: { type: string; soft: number | null; hard: number | null }[];
  cgroupFiles: string[];
}

/** What the Rust side calls, from its loop. */
export interface HostCallbacks {
  /** Runs the timers that are due; returns the milliseconds to the next one, or -1. */
  timeout(): number;
  ready(id: number, readable: boolean, writable: boolean): void;
  childExited(pid: number, code: number | null | undefined, signal: number | null | undefined): void;
  signal(number: number): void;
}

/** The engine takes texts as UTF-8, which lone surrogates do not have: they would be an exception. */
export function wellFormed(text: string): string {
  return text.toWellFormed();
}
