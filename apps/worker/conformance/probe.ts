import { encodeRecord, FramingError, RecordDecoder } from "@berth/recordio";
import type { ChildHandlers, Connection, ConnectionHandlers, Host, Spawned, SpawnOptions } from "../core/host.ts";

/** A request of a test, one record on the probe's control socket; the answer is `{id, result}` or `{id, error}`. */
export interface ProbeRequest {
  id: number;
  operation: string;
  arguments: unknown[];
}

/** What became of a connection that the probe opened. */
export interface ConnectionReport {
  opened: boolean;
  /** undefined: still there. */
  closed?: string | null;
  received: number;
  /** Every byte was what {@link pattern} has at its place. */
  intact: boolean;
  records: string[];
  framing?: string;
}

/** What became of a child. */
export interface ChildReport {
  stdout: string;
  stderr: string;
  /** Of stdout, not cut like the text. */
  bytes: number;
  exits: Array<[code: number | null, signal: number | null]>;
  outputAfterExit: boolean;
}

/** The variable with the control socket's path. */
export const PROBE_SOCKET = "BERTH_PROBE_SOCKET";
const PERIOD = 251;
const MAX_TEXT = 64 * 1024;

/** Bytes whose value tells their place, so that any loss, repetition or exchange shows. */
export function pattern(length: number, from = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at++) bytes[at] = (from + at) % PERIOD;
  return bytes;
}

/** Offers a whole `Host` to a test by remote control. Written as the core is: it runs on each host. */
export function runProbe(host: Host): void {
  const probe = new Probe(host);
  let control: Connection | undefined;
  const decoder = new RecordDecoder((record) => {
    const request = JSON.parse(host.decodeUtf8(record)) as ProbeRequest;
    const answer = (value: object): void => control?.write(encodeRecord(host.encodeUtf8(JSON.stringify({ id: request.id, ...value }))));
    // Errors must reach the host's own handling here, so they are thrown from a timer.
    if (request.operation === "crash") return void host.setTimer(0, () => probe.crash(String(request.arguments[0])));
    if (request.operation === "exit") answer({ result: "exiting" });
    answer({ result: probe.perform(request.operation, request.arguments) ?? null });
  });
  control = host.connectUnix(host.environment()[PROBE_SOCKET] ?? "", {
    open: () => {},
    data: (bytes) => decoder.push(bytes),
    close: () => host.exit(0),
  });
}

type Operation = (...values: never[]) => unknown;

class Probe {
  readonly #host: Host;
  readonly #connections: Array<{ connection: Connection; report: ConnectionReport }> = [];
  readonly #children = new Map<number, ChildReport>();
  readonly #signals: number[] = [];
  readonly #timers: string[] = [];
  readonly #operations: Record<string, Operation>;

  constructor(host: Host) {
    this.#host = host;
    this.#operations = {
      connectUnix: (path: string, limit?: number) => this.#connect((handlers) => host.connectUnix(path, handlers), limit),
      connectTcp: (address: string, port: number, limit?: number) =>
        this.#connect((handlers) => host.connectTcp(address, port, handlers), limit),
      /** Bytes of the pattern, in pieces. */
      write: (index: number, length: number, pieces = 1) => {
        const size = Math.ceil(length / pieces);
        for (let at = 0; at < length; at += size) this.#at(index).connection.write(pattern(Math.min(size, length - at), at));
      },
      close: (index: number) => this.#at(index).connection.close(),
      connection: (index: number) => this.#at(index).report,
      spawn: (options: SpawnOptions) => this.#spawn(options),
      child: (pid: number) => this.#children.get(pid),
      kill: (pid: number, signal: number) => host.kill(pid, signal),
      takeSignals: () => host.onSignal((signal) => this.#signals.push(signal)),
      signals: () => this.#signals,
      setTimers: (timers: Array<[name: string, delay: number]>, cancelled: string[]) => this.#setTimers(timers, cancelled),
      timers: () => this.#timers,
      recode: (base64: string) => host.decodeUtf8(host.decodeBase64(base64)),
      encode: (text: string) => host.encodeBase64(host.encodeUtf8(text)),
      recode64: (base64: string) => host.encodeBase64(host.decodeBase64(base64)),
      randomBytes: (count: number) => host.encodeBase64(host.randomBytes(count)),
      // As much as goes out at once, in pieces of this text; returns how many bytes that were.
      fillDescriptor: (fd: 1 | 2, text: string) => {
        const bytes = host.encodeUtf8(text);
        for (let total = 0; ; ) {
          const taken = host.writeDescriptor(fd, bytes);
          total += taken;
          if (taken < bytes.length) return total;
        }
      },
      writeAndExit: (index: number, length: number, code: number) => {
        this.#at(index).connection.write(pattern(length));
        host.exit(code);
      },
      exit: (code: number) => host.exit(code),
    };
  }

  perform(operation: string, values: unknown[]): unknown {
    const own = this.#operations[operation];
    if (own !== undefined) return own(...(values as never[]));
    const direct = this.#host[operation as keyof Host] as Operation | undefined;
    if (direct === undefined) throw new Error(`the probe has no operation ${operation}`);
    return direct(...(values as never[]));
  }

  crash(how: string): void {
    if (how === "memory") {
      const kept: Uint8Array[] = [];
      for (;;) kept.push(new Uint8Array(1024 * 1024));
    }
    if (how === "recursion") recurse(0);
    if (how === "rejection") void Promise.reject(new RangeError("nobody listens"));
    else throw new TypeError(`a crash by ${how}`);
  }

  #at(index: number): { connection: Connection; report: ConnectionReport } {
    const found = this.#connections[index];
    if (found === undefined) throw new Error(`there is no connection ${index}`);
    return found;
  }

  #connect(open: (handlers: ConnectionHandlers) => Connection, limit?: number): number {
    const report: ConnectionReport = { opened: false, received: 0, intact: true, records: [] };
    const decoder =
      limit === undefined ? undefined : new RecordDecoder((record) => report.records.push(this.#host.decodeUtf8(record)), limit);
    const connection = open({
      open: () => {
        report.opened = true;
      },
      data: (bytes) => {
        if (decoder === undefined) report.intact &&= isPattern(bytes, report.received);
        report.received += bytes.length;
        try {
          decoder?.push(bytes);
        } catch (error) {
          if (!(error instanceof FramingError)) throw error;
          report.framing = error.message;
          connection.close();
        }
      },
      close: (error) => {
        report.closed = error;
      },
    });
    return this.#connections.push({ connection, report }) - 1;
  }

  #spawn(options: SpawnOptions): Spawned | string {
    const report: ChildReport = { stdout: "", stderr: "", bytes: 0, exits: [], outputAfterExit: false };
    const handlers: ChildHandlers = {
      output: (stream, bytes) => {
        if (report.exits.length > 0) report.outputAfterExit = true;
        if (stream === "stdout") report.bytes += bytes.length;
        if (report[stream].length < MAX_TEXT) report[stream] += this.#host.decodeUtf8(bytes);
      },
      exit: (code, signal) => void report.exits.push([code, signal]),
    };
    const spawned = this.#host.spawn(options, handlers);
    if (typeof spawned === "string") return spawned;
    this.#children.set(spawned.pid, report);
    return spawned;
  }

  #setTimers(timers: ReadonlyArray<[name: string, delay: number]>, cancelled: readonly string[]): void {
    const ids = timers.map(([name, delay]) => [name, this.#host.setTimer(delay, () => this.#timers.push(name))] as const);
    for (const [name, id] of ids) if (cancelled.includes(name)) this.#host.clearTimer(id);
    this.#timers.push("set");
  }
}

function isPattern(bytes: Uint8Array, from: number): boolean {
  for (let at = 0; at < bytes.length; at++) if (bytes[at] !== (from + at) % PERIOD) return false;
  return true;
}

function recurse(depth: number): number {
  return recurse(depth + 1) + 1;
}
