/**
 * What the Rust host offers (apps/worker/lean/src/natives.rs), as the global `native`. Numbers below zero are errno values with
 * the sign turned. Strings must be well-formed UTF-16: Rust has no others.
 */
export interface Native {
  /** A descriptor's number, or a negative errno. */
  connectUnix(path: string): number;
  connectTcp(address: string, port: number): number;
  /** Of a connection that became writable for the first time: 0, or the errno of its failure. */
  outcome(id: number): number;
  /** Bytes; 0 at the end; a negative errno. Of a socket or a pipe. */
  read(id: number): ArrayBuffer | number;
  /** How many bytes were taken, or a negative errno. */
  write(id: number, buffer: ArrayBuffer, offset: number, length: number): number;
  /** What `ready` is called for: READ, WRITE, both or 0. */
  watch(id: number, interest: number): void;
  close(id: number): void;
  /** Waits for descriptors that are watched for WRITE, and for nothing else. Milliseconds. */
  waitWritable(timeout: number): number[];

  /** [pid, joined], [pid, joined, stdout, stderr], or [-errno, step]. `joined` is 1 where the child is in all of the cgroups, else 0. */
  spawn(request: SpawnRequest): number[];
  kill(pid: number, signal: number): boolean;
  /** From now on SIGTERM and SIGINT come to `Loop.signal`. */
  takeSignals(): void;
  exit(code: number): never;

  wallClock(): number;
  monotonicClock(): number;
  /** "ECONNREFUSED" for its positive number. */
  errorName(errno: number): string;
  pid(): number;
  /** With the program's own name. Valid until the first `setTitle`. */
  arguments(): string[];
  /** Names and values in turn. Valid until the first `setTitle`. */
  environment(): string[];
  eraseEnvironment(name: string): void;
  setTitle(text: string): void;
  /** Kind, device, inode. */
  descriptor(fd: number): [string, string, string];
  /** How many bytes were taken. */
  writeDescriptor(fd: number, buffer: ArrayBuffer, offset: number, length: number): number;

  /** `undefined` where it cannot be read: Rust's None. */
  readTextFile(path: string): string | undefined;
  writeTextFile(path: string, text: string): boolean;
  listDirectory(path: string): string[];
  makeDirectory(path: string): boolean;
  removeDirectory(path: string): boolean;
  readLink(path: string): string | undefined;
  exists(path: string): boolean;

  encodeUtf8(text: string): ArrayBuffer;
  decodeUtf8(buffer: ArrayBuffer, offset: number, length: number): string;
  encodeBase64(buffer: ArrayBuffer, offset: number, length: number): string;
  decodeBase64(text: string): ArrayBuffer;
  randomBytes(count: number): ArrayBuffer;
}

export interface SpawnRequest {
  argv: string[];
  /** Of the environment, beside `values`. */
  names: string[];
  values: string[];
  directory: string;
  piped: boolean;
  /** uid, gid, then the supplementary groups; undefined leaves all as they are. */
  ids: number[] | undefined;
  limits: Array<{ type: string; soft: number | undefined; hard: number | undefined }>;
  cgroups: Array<{ version: number; directory: string }>;
}

/** What the Rust loop calls; a program exports it as `loop`. */
export interface Loop {
  /** Runs the timers that are due. Returns the milliseconds until the next one, -1 without any. */
  runTimers(): number;
  ready(id: number, readable: boolean, writable: boolean): void;
  childEnded(pid: number, code: number | undefined, signal: number | undefined): void;
  signal(signal: number): void;
}

export const READ = 1;
export const WRITE = 2;

/** Linux's numbers, the same on every architecture that Berth is built for. */
export const EAGAIN = 11;
export const EINVAL = 22;
