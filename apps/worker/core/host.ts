/**
 * Everything the worker's core may ask of the machine. Implemented on Node (`host-node`) and on QuickJS-ng (`host-lean`);
 * the core itself imports nothing of either, so that it runs the same on both.
 *
 * Callbacks are called from the host's event loop, never from within the call that registers them.
 */

export interface Connection {
  /** Queues bytes and sends them as the peer takes them. A call after the connection closed does nothing. */
  write(bytes: Uint8Array): void;
  /** Closes at once and calls no handler any more. Queued bytes are lost. */
  close(): void;
}

export interface ConnectionHandlers {
  open(): void;
  /** The bytes are the handler's to keep. */
  data(bytes: Uint8Array): void;
  /** The connection failed to open or ended. `error` is null for an orderly end, else words like "ECONNREFUSED". */
  close(error: string | null): void;
}

/** A cgroup that was made for a child, below this process's own. */
export interface ChildCgroup {
  /** 1: of one of v1's hierarchies. */
  version: 1 | 2;
  directory: string;
  /** This process's own cgroup in the same hierarchy, for a host that must go there itself and come back. */
  home: string;
}

export interface SpawnOptions {
  argv: readonly string[];
  /** The child's whole environment. */
  environment: Readonly<Record<string, string>>;
  directory: string;
  /** `inherit`: the worker's stdout and stderr; `pipe`: read by the worker and given to `output`. stdin is /dev/null. */
  output: "inherit" | "pipe";
  user?: { uid: number; gid: number; groups: readonly number[] };
  rlimits?: ReadonlyArray<{ type: string; soft: number | null; hard: number | null }>;
  /** Where the child is before its program begins, and so whatever that starts. */
  cgroups?: readonly ChildCgroup[];
}

export interface Spawned {
  pid: number;
  /** It is in all of the `cgroups`. One that could not join them runs all the same. */
  joined: boolean;
}

export interface ChildHandlers {
  output(stream: "stdout" | "stderr", bytes: Uint8Array): void;
  /** Exactly one is not null. Called once, after the last `output` unless somebody else holds the pipe open. */
  exit(code: number | null, signal: number | null): void;
}

/** What a descriptor of the worker is; device and inode in decimal. */
export interface DescriptorInfo {
  kind: "file" | "pipe" | "other";
  device: string;
  inode: string;
}

export interface TlsOptions {
  /** PEM text of the certificates to trust; absent: the system's. */
  ca?: string;
  verify: boolean;
}

export interface Host {
  /** Connects to a unix socket; a leading "\0" or "@" is not supported. A path over 107 bytes closes with "ENAMETOOLONG". */
  connectUnix(path: string, handlers: ConnectionHandlers): Connection;
  /** Connects to a numeric IPv4 or IPv6 address with TCP keep-alive on. */
  connectTcp(address: string, port: number, handlers: ConnectionHandlers): Connection;
  /** As `connectTcp`, with TLS. Absent on a host that cannot. */
  connectTls?(address: string, port: number, options: TlsOptions, handlers: ConnectionHandlers): Connection;

  setTimer(delayMs: number, callback: () => void): number;
  clearTimer(id: number): void;
  /** Milliseconds since the epoch, with fractions. */
  wallClock(): number;
  /** Milliseconds of a clock that never jumps. */
  monotonicClock(): number;

  /** Starts a process in a session of its own. Returns what became of it, or the reason why it could not be started ("ENOENT"). */
  spawn(options: SpawnOptions, handlers: ChildHandlers): Spawned | string;
  /** Whether the output of children is read. What is not waits in their pipes, and so do they; a child that is over is read to its end. */
  readChildren(read: boolean): void;
  /** kill(2): negative pids are process groups. Returns false when there is no such process. */
  kill(pid: number, signal: number): boolean;
  /** Called for SIGTERM (15) and SIGINT (2). */
  onSignal(callback: (signal: number) => void): void;

  pid(): number;
  arguments(): readonly string[];
  environment(): Readonly<Record<string, string>>;
  /** Removes a variable from the process's own environment: neither `environment()` nor a child shows it any more. */
  eraseEnvironment(name: string): void;
  /** Sets what `ps` shows. */
  setTitle(text: string): void;
  descriptor(fd: 1 | 2): DescriptorInfo;
  /**
   * Writes to the worker's own stdout (1) or stderr (2) what can be written without waiting; returns how many bytes that were. What
   * nobody will ever read counts as written.
   */
  writeDescriptor(fd: 1 | 2, bytes: Uint8Array): number;

  /** Reads a small text file (procfs, cgroupfs); null when it cannot be read. */
  readTextFile(path: string): string | null;
  /** Writes to an existing file (cgroupfs); false when it cannot be written. */
  writeTextFile(path: string, text: string): boolean;
  /** Names in a directory; empty when it cannot be read. */
  listDirectory(path: string): string[];
  makeDirectory(path: string): boolean;
  removeDirectory(path: string): boolean;
  /** The target of a symbolic link (procfs namespaces); null when there is none. */
  readLink(path: string): string | null;

  encodeUtf8(text: string): Uint8Array;
  /** Malformed bytes become U+FFFD. */
  decodeUtf8(bytes: Uint8Array): string;
  /** Standard base64 with padding. */
  encodeBase64(bytes: Uint8Array): string;
  /** Characters outside of the alphabet are passed over. */
  decodeBase64(text: string): Uint8Array;
  randomBytes(count: number): Uint8Array;

  /** Ends the process once queued output is written, or after two seconds. Never returns to the caller's callback loop. */
  exit(code: number): void;
}
