import { dirname, isAbsolute, resolve } from "node:path";
import type { DockerEndpoint } from "@berth/runtime/docker/engine-types";
import { ConsulAddresses } from "./consul-addresses.ts";
import { DatagramSockets } from "./datagram-sockets.ts";
import { DatagramTransport } from "./datagram-transport.ts";
import { Descriptors } from "./descriptors.ts";
import { EndedTotals } from "./ended-totals.ts";
import { AppendFile, type ByteTarget, FileSink } from "./file-sink.ts";
import { copyLastLogs } from "./last-logs.ts";
import { LeftBehind } from "./left-behind.ts";
import { loadLibc } from "./libc.ts";
import { LogReader } from "./log-reader.ts";
import { logstashRecord } from "./logstash-record.ts";
import { MultiLine } from "./multi-line.ts";
import { openSource } from "./open-source.ts";
import { OutputTarget } from "./output-target.ts";
import { Pipeline, type Place } from "./pipeline.ts";
import { PushedSource } from "./pushed-source.ts";
import { type AddressList, DatagramRing, fixedAddresses, StreamRing } from "./receiver-ring.ts";
import { jsonRecord, syslogRecord } from "./records.ts";
import { RemoteSink, type RemoteSinkOptions } from "./remote-sink.ts";
import type { Sink } from "./sink.ts";
import { StreamTransport } from "./stream-transport.ts";
import type { Transport } from "./transport.ts";
import type {
  FollowRequest,
  LastLogs,
  LastLogsRequest,
  LogPosition,
  LogStatistics,
  LogstashSink,
  LogThreadMethods,
  PushRequest,
  ReadLine,
  ReadRequest,
  SinkConfig,
  StopRequest,
  StreamName,
  SyslogSink,
  TaskLogStatistics,
  ThreadLogLine,
} from "./types.ts";

/** What the log thread is started with. */
export interface RelayStart {
  /** For sources that only dockerd can read. */
  docker: DockerEndpoint;
  /** How long lines of a task that is over may wait for their receiver, milliseconds. Default 2 minutes. */
  keepLeftMs?: number;
  /** Of {@link Descriptors}: where the thread notes its sockets for whoever comes after it. */
  descriptors?: SharedArrayBuffer;
}

export interface RelayEvents {
  /** Resolves when they are where they outlive this thread; reading waits for that. */
  positions(batch: Array<{ taskKey: string; position: LogPosition }>): Promise<void> | undefined;
  output(event: { id: number; taskKey: string; stream: StreamName; bytes: Uint8Array }): void;
  problem(event: { taskKey: string; problem: string | undefined }): void;
  log(line: ThreadLogLine): void;
}

export const MAX_LINE_BYTES = 1024 * 1024;
/** Positions go out together after this long, or at once when reading waits for one. */
const POSITIONS_MS = 200;
const RETRY_SOURCE_MS = 1_000;

type RemoteHead = Pick<RemoteSinkOptions, "type" | "leftBehind" | "queueBytes" | "until">;

interface Followed {
  request: FollowRequest;
  pipeline: Pipeline | undefined;
  /** The first attempt to open its source, whatever came of it. */
  opened: Promise<void>;
  ended: AbortController;
}

/** All log work of a host: a pipeline per task, and one way to each receiver whatever the number of tasks. */
export class LogRelay implements LogThreadMethods {
  readonly #docker: DockerEndpoint;
  readonly #events: RelayEvents;
  readonly #tasks = new Map<string, Followed>();
  readonly #transports = new Map<string, Transport>();
  readonly #sockets: DatagramSockets;
  /** Of pipelines that are closed. */
  readonly #ended = new EndedTotals();
  readonly #left: LeftBehind;
  readonly #readers = new Map<number, LogReader>();
  readonly #outputs = new Map<number, () => void>();
  readonly #positions = new Map<string, LogPosition>();
  /** Told when the positions above are held. */
  #holding: Array<() => void> = [];
  #positionsTimer: NodeJS.Timeout | undefined;
  #nextId = 1;

  constructor({ docker, keepLeftMs, descriptors }: RelayStart, events: RelayEvents) {
    this.#docker = docker;
    const settled = this.#ended.addLate.bind(this.#ended);
    this.#left = new LeftBehind({ settled, ...(keepLeftMs === undefined ? {} : { keepMs: keepLeftMs }) });
    this.#events = events;
    const noted = new Descriptors(descriptors);
    this.#sockets = new DatagramSockets(
      (line) => events.log(line),
      async () => noted.noted(await loadLibc()),
    );
  }

  follow(request: FollowRequest): void {
    const before = this.#tasks.get(request.taskKey);
    before?.ended.abort();
    before?.pipeline?.close();
    const first = Promise.withResolvers<void>();
    const followed: Followed = { request, pipeline: undefined, opened: first.promise, ended: new AbortController() };
    this.#tasks.set(request.taskKey, followed);
    void this.#begin(followed, first.resolve).finally(first.resolve);
  }

  push({ taskKey, stream, bytes, offset }: PushRequest): void {
    const source = this.#tasks.get(taskKey)?.pipeline?.source;
    if (source instanceof PushedSource) source.push(stream, bytes, offset);
  }

  async stop({ taskKey, drain, deadline }: StopRequest, signal?: AbortSignal): Promise<TaskLogStatistics | undefined> {
    const followed = this.#tasks.get(taskKey);
    if (followed === undefined) return undefined;
    const limit = AbortSignal.timeout(Math.max(0, Math.min(deadline - Date.now(), 0x7fffffff)));
    const both = signal === undefined ? limit : AbortSignal.any([signal, limit]);
    // A task that is over at once has written all the same: its source may be just about to be opened.
    if (drain) await Promise.race([followed.opened, new Promise((resolve) => both.addEventListener("abort", resolve, { once: true }))]);
    followed.ended.abort();
    const statistics = await followed.pipeline?.stop(drain, both);
    if (this.#tasks.get(taskKey) === followed) this.#tasks.delete(taskKey);
    this.#flushPositions();
    return statistics;
  }

  lastLogs(request: LastLogsRequest, signal?: AbortSignal): Promise<LastLogs> {
    const target = this.#targets(request.taskKey, request.sandbox, 0, 1);
    return copyLastLogs(request, this.#docker, target.of, signal).finally(() => target.close());
  }

  async readOpen(request: ReadRequest): Promise<number> {
    const task = request.taskKey === undefined ? undefined : this.#tasks.get(request.taskKey)?.request;
    let source = request.source ?? task?.source;
    if (source?.kind === "pushed" && task?.sandbox !== undefined) source = { kind: "text", ...task.sandbox };
    if (source === undefined || source.kind === "pushed") throw new Error(`there is nothing to read of ${request.taskKey ?? "no task"}`);
    const reader = new LogReader(request, source, this.#docker);
    await reader.open();
    const id = this.#nextId++;
    this.#readers.set(id, reader);
    return id;
  }

  async readNext({ id }: { id: number }, signal?: AbortSignal): Promise<ReadLine[]> {
    return (await this.#readers.get(id)?.next(signal)) ?? [];
  }

  readFinish({ id }: { id: number }): void {
    this.#readers.get(id)?.finish();
  }

  readClose({ id }: { id: number }): void {
    this.#readers.get(id)?.close();
    this.#readers.delete(id);
  }

  outputTaken({ id }: { id: number }): void {
    this.#outputs.get(id)?.();
    this.#outputs.delete(id);
  }

  stats(): LogStatistics {
    const { heapUsed, external } = process.memoryUsage();
    const tasks = [...this.#tasks.values()].flatMap(({ pipeline }) => (pipeline === undefined ? [] : [pipeline.statistics()]));
    return { tasks, totals: this.#ended.with(tasks), leftBytes: this.#left.bytes, heapUsedBytes: heapUsed, externalBytes: external };
  }

  close(): void {
    for (const { pipeline, ended } of this.#tasks.values()) {
      ended.abort();
      pipeline?.close();
    }
    for (const reader of this.#readers.values()) reader.close();
    this.#left.close();
    for (const transport of this.#transports.values()) transport.close();
    this.#flushPositions();
  }

  /** Opens the source, again and again where it is not to be had yet; a wrong setting of one sink costs only that sink. */
  async #begin(followed: Followed, tried: () => void): Promise<void> {
    const { request, ended } = followed;
    const { taskKey, options = {}, source } = request;
    const maxLineBytes = Math.min(options.maxLineBytes ?? MAX_LINE_BYTES, MAX_LINE_BYTES);
    let said = false;
    while (!ended.signal.aborted) {
      try {
        const onGap = (reason: string): void => {
          gaps.push(reason);
          followed.pipeline?.gap(reason);
          this.#events.log({ level: "warn", fields: { taskKey, reason }, message: "some of a task's output is lost" });
        };
        const gaps: string[] = [];
        const multiLine = options.multiLine === undefined ? undefined : new MultiLine<Place>(options.multiLine, maxLineBytes);
        const opened = await openSource({
          source,
          docker: this.#docker,
          maxLineBytes,
          onGap,
          ...(request.position === undefined ? {} : { position: request.position }),
          ...(options.since === undefined ? {} : { since: options.since }),
        });
        if (ended.signal.aborted) return opened.close();
        followed.pipeline = new Pipeline({
          taskKey,
          kind: source.kind,
          source: opened,
          sinks: this.#sinks(request),
          maxLineBytes,
          onPosition: (position, held) => this.#position(taskKey, position, held),
          hurry: () => this.#flushPositions(),
          onGap,
          onProblem: (problem) => this.#events.problem({ taskKey, problem }),
          onClosed: (statistics) => this.#ended.add(statistics),
          ...(multiLine === undefined ? {} : { multiLine }),
        });
        for (const reason of gaps) followed.pipeline.gap(reason);
        tried();
        if (said) this.#events.problem({ taskKey, problem: undefined });
        return;
      } catch (error) {
        if (!said) this.#events.problem({ taskKey, problem: `its output cannot be read: ${(error as Error).message}` });
        said = true;
        tried();
        await new Promise((resolve) => setTimeout(resolve, RETRY_SOURCE_MS).unref());
      }
    }
  }

  #sinks(request: FollowRequest): Sink[] {
    return request.sinks.flatMap((config) => {
      try {
        const sink = this.#sink(config, request);
        return sink === undefined ? [] : [sink];
      } catch (error) {
        const fields = { taskKey: request.taskKey, sink: config.type, err: { message: (error as Error).message } };
        this.#events.log({ level: "warn", fields, message: "a log target of a task cannot be used" });
        return [];
      }
    });
  }

  #sink(config: SinkConfig, request: FollowRequest): Sink | undefined {
    const { fields, hostname, taskKey, sandbox } = request;
    const { type, until, queueBytes } = config;
    const remote: RemoteHead = {
      type,
      leftBehind: this.#left,
      ...(until === undefined ? {} : { until }),
      ...(queueBytes === undefined ? {} : { queueBytes }),
    };
    switch (config.type) {
      case "sandbox": {
        if (sandbox === undefined) throw new Error("no sandbox is known");
        const json = config.format === "json";
        const targets = this.#targets(taskKey, sandbox, config.maxBytes ?? 0, config.keep ?? 1);
        // The incumbent's JSON lines all go to its stdout.
        return new FileSink(
          "sandbox",
          config.name ?? "sandbox",
          json ? () => targets.of("stdout") : targets.of,
          json ? jsonRecord(fields, hostname) : undefined,
        );
      }
      case "file": {
        if (!isAbsolute(config.path) && sandbox === undefined) throw new Error("no sandbox is known");
        const path = sandbox === undefined ? config.path : resolve(dirname(sandbox.stdoutPath), config.path);
        const file = new AppendFile(path, config.maxBytes, config.keep);
        return new FileSink(
          "file",
          config.name ?? `file ${config.path}`,
          () => file,
          config.format === "json" ? jsonRecord(fields, hostname) : undefined,
        );
      }
      case "json-udp": {
        const transport = this.#udp(config.address, config.rate);
        const name = config.name ?? `json-udp ${config.address}`;
        return new RemoteSink({ ...remote, name, format: jsonRecord(fields, hostname), transport });
      }
      case "syslog": {
        const transport = this.#syslogTransport(config);
        const name = config.name ?? `syslog ${config.transport} ${config.address ?? config.path ?? "/dev/log"}`;
        const octetCount = config.transport === "tcp" || config.transport === "tls";
        const format = syslogRecord(config, fields, hostname, taskKey);
        return new RemoteSink({ ...remote, name, format, transport, octetCount });
      }
      case "logstash":
        return this.#logstash(config, request, remote);
    }
  }

  #syslogTransport(config: SyslogSink): Transport {
    if (config.transport === "unix") {
      const path = config.path ?? "/dev/log";
      return this.#transport(`unix ${path}`, () => new DatagramTransport({ kind: "unix", path }, this.#sockets));
    }
    const { address } = config;
    if (address === undefined) throw new Error("a syslog target needs an address");
    if (config.transport === "udp") return this.#udp(address, config.rate);
    const tls = config.transport === "tls" ? (config.tls ?? {}) : undefined;
    return this.#transport(
      `${config.transport} syslog ${address} ${JSON.stringify(tls)}`,
      () => new StreamTransport(address, tls === undefined ? {} : { tls }),
    );
  }

  #logstash(config: LogstashSink, request: FollowRequest, remote: RemoteHead): Sink {
    const { scrape, until: _until, queueBytes: _queue, name, ...receivers } = config;
    const { discovery, addresses = [], transport: protocol } = config;
    if (discovery === undefined && addresses.length === 0) throw new Error("a Logstash target needs an address");
    const transport = this.#transport(`logstash ${JSON.stringify(receivers)}`, () => this.#receivers(config));
    const format = logstashRecord(request.fields, request.hostname, scrape, (reason) => sink.counters.drop(reason));
    const sink: RemoteSink = new RemoteSink({
      ...remote,
      name: name ?? `logstash ${protocol} ${discovery?.service ?? addresses.join(",")}`,
      format,
      transport,
    });
    return sink;
  }

  /** One way to all receivers of a Logstash target. */
  #receivers({ transport, discovery, addresses = [], rate, connectMs, keepAliveMs }: LogstashSink): Transport {
    const options = { ...(connectMs === undefined ? {} : { connectMs }), ...(keepAliveMs === undefined ? {} : { keepAliveMs }) };
    const only = discovery === undefined && addresses.length === 1 ? addresses[0] : undefined;
    const datagrams = (address: string): Transport => this.#udp(address, rate);
    if (only !== undefined) return transport === "udp" ? datagrams(only) : new StreamTransport(only, options);
    const list: AddressList =
      discovery === undefined
        ? fixedAddresses(addresses)
        : new ConsulAddresses(
            discovery,
            (line) => this.#events.log(line),
            () => ring.ready(),
          );
    const ring: StreamRing | DatagramRing =
      transport === "udp"
        ? new DatagramRing(list, datagrams)
        : new StreamRing(list, (address, group) => new StreamTransport(address, { ...options, group }));
    return ring;
  }

  #udp(address: string, rate: number | undefined): Transport {
    return this.#transport(`udp ${address} ${rate}`, () => new DatagramTransport({ kind: "udp", address, rate }, this.#sockets));
  }

  #transport(key: string, open: () => Transport): Transport {
    const known = this.#transports.get(key) ?? open();
    this.#transports.set(key, known);
    return known;
  }

  #targets(
    taskKey: string,
    sandbox: NonNullable<FollowRequest["sandbox"]>,
    maxBytes: number,
    keep: number,
  ): { of: (stream: StreamName) => ByteTarget; close: () => void } {
    const open = (stream: StreamName): ByteTarget => {
      if (sandbox.writable) return new AppendFile(stream === "stdout" ? sandbox.stdoutPath : sandbox.stderrPath, maxBytes, keep);
      return new OutputTarget((bytes, taken) => {
        const id = this.#nextId++;
        this.#outputs.set(id, taken);
        this.#events.output({ id, taskKey, stream, bytes });
      });
    };
    const targets = { stdout: open("stdout"), stderr: open("stderr") };
    return {
      of: (stream) => targets[stream],
      close: () => {
        targets.stdout.close();
        targets.stderr.close();
      },
    };
  }

  #position(taskKey: string, position: LogPosition, held: () => void): void {
    this.#positions.set(taskKey, position);
    this.#holding.push(held);
    this.#positionsTimer ??= setTimeout(() => this.#flushPositions(), POSITIONS_MS);
  }

  #flushPositions(): void {
    clearTimeout(this.#positionsTimer);
    this.#positionsTimer = undefined;
    if (this.#positions.size === 0) return;
    const holding = this.#holding;
    this.#holding = [];
    const taken = this.#events.positions([...this.#positions].map(([taskKey, position]) => ({ taskKey, position })));
    this.#positions.clear();
    const tell = (): void => {
      for (const held of holding) held();
    };
    if (taken === undefined) tell();
    else void taken.then(tell);
  }
}
