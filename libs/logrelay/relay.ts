import type { DockerEndpoint } from "@berth/runtime/docker/engine-types";
import { ConsulAddresses } from "./consul-addresses.ts";
import { AppendFile, type ByteTarget, FileSink } from "./file-sink.ts";
import { copyLastLogs } from "./last-logs.ts";
import { LogReader } from "./log-reader.ts";
import { logstashRecord } from "./logstash-record.ts";
import { MultiLine } from "./multi-line.ts";
import { openSource } from "./open-source.ts";
import { OutputTarget } from "./output-target.ts";
import { Pipeline } from "./pipeline.ts";
import { PushedSource } from "./pushed-source.ts";
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
  ReadLine,
  ReadRequest,
  SinkConfig,
  StopRequest,
  StreamName,
  SyslogSink,
  TaskLogStatistics,
  ThreadLogLine,
} from "./types.ts";
import { UdpTransport } from "./udp-transport.ts";
import { UnixTransport } from "./unix-transport.ts";

/** What the log thread is started with. */
export interface RelayStart {
  /** For sources that only dockerd can read. */
  docker: DockerEndpoint;
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

interface Followed {
  request: FollowRequest;
  pipeline: Pipeline | undefined;
  /** Its source was tried to be opened. */
  begun: PromiseWithResolvers<void>;
  ended: AbortController;
}

/** All log work of a host: a pipeline per task, and one way to each receiver whatever the number of tasks. */
export class LogRelay implements LogThreadMethods {
  readonly #docker: DockerEndpoint;
  readonly #events: RelayEvents;
  readonly #tasks = new Map<string, Followed>();
  readonly #transports = new Map<string, Transport>();
  readonly #consul = new Map<string, ConsulAddresses>();
  readonly #readers = new Map<number, LogReader>();
  readonly #outputs = new Map<number, () => void>();
  readonly #positions = new Map<string, LogPosition>();
  /** Told when the positions above are held. */
  #holding: Array<() => void> = [];
  #positionsTimer: NodeJS.Timeout | undefined;
  #nextId = 1;

  constructor({ docker }: RelayStart, events: RelayEvents) {
    this.#docker = docker;
    this.#events = events;
  }

  follow(request: FollowRequest): void {
    const before = this.#tasks.get(request.taskKey);
    before?.ended.abort();
    before?.pipeline?.close();
    const followed: Followed = { request, pipeline: undefined, begun: Promise.withResolvers(), ended: new AbortController() };
    this.#tasks.set(request.taskKey, followed);
    void this.#begin(followed);
  }

  push({ taskKey, stream, bytes }: { taskKey: string; stream: StreamName; bytes: Uint8Array }): void {
    const source = this.#tasks.get(taskKey)?.pipeline?.source;
    if (source instanceof PushedSource) source.push(stream, bytes);
  }

  async stop({ taskKey, drain, deadline }: StopRequest, signal?: AbortSignal): Promise<TaskLogStatistics | undefined> {
    const followed = this.#tasks.get(taskKey);
    if (followed === undefined) return undefined;
    const limit = AbortSignal.timeout(Math.max(0, Math.min(deadline - Date.now(), 0x7fffffff)));
    const both = signal === undefined ? limit : AbortSignal.any([signal, limit]);
    // A task may end before its output was read for the first time.
    if (drain)
      await Promise.race([followed.begun.promise, new Promise((resolve) => both.addEventListener("abort", resolve, { once: true }))]);
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
    return { tasks, heapUsedBytes: heapUsed, externalBytes: external };
  }

  close(): void {
    for (const { pipeline, ended } of this.#tasks.values()) {
      ended.abort();
      pipeline?.close();
    }
    for (const reader of this.#readers.values()) reader.close();
    for (const consul of this.#consul.values()) consul.close();
    for (const transport of this.#transports.values()) transport.close();
    this.#flushPositions();
  }

  /** Opens the source, again and again where it is not to be had yet; a wrong setting of one sink costs only that sink. */
  async #begin(followed: Followed): Promise<void> {
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
        const multiLine = options.multiLine === undefined ? undefined : new MultiLine(options.multiLine);
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
          ...(multiLine === undefined ? {} : { multiLine }),
        });
        for (const reason of gaps) followed.pipeline.gap(reason);
        followed.begun.resolve();
        if (said) this.#events.problem({ taskKey, problem: undefined });
        return;
      } catch (error) {
        if (!said) this.#events.problem({ taskKey, problem: `its output cannot be read: ${(error as Error).message}` });
        said = true;
        followed.begun.resolve();
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
    const until = config.until === undefined ? {} : { until: config.until };
    const queue = config.queueBytes === undefined ? {} : { queueBytes: config.queueBytes };
    switch (config.type) {
      case "sandbox": {
        if (sandbox === undefined) throw new Error("no sandbox is known");
        const json = config.format === "json";
        const targets = this.#targets(taskKey, sandbox, config.maxBytes ?? 0, config.keep ?? 1);
        // The incumbent's JSON lines all go to its stdout.
        return new FileSink(
          config.name ?? "sandbox",
          json ? () => targets.of("stdout") : targets.of,
          json ? jsonRecord(fields, hostname) : undefined,
        );
      }
      case "file": {
        const file = new AppendFile(config.path, config.maxBytes, config.keep);
        return new FileSink(
          config.name ?? `file ${config.path}`,
          () => file,
          config.format === "json" ? jsonRecord(fields, hostname) : undefined,
        );
      }
      case "json-udp": {
        const transport = this.#transport(`udp ${config.address} ${config.rate}`, () => new UdpTransport(config.address, config.rate));
        const name = config.name ?? `json-udp ${config.address}`;
        return new RemoteSink({ name, format: jsonRecord(fields, hostname), transports: () => [transport], ...queue, ...until });
      }
      case "syslog": {
        const transport = this.#syslogTransport(config);
        const name = config.name ?? `syslog ${config.transport} ${config.address ?? config.path ?? "/dev/log"}`;
        const octetCount = config.transport === "tcp" || config.transport === "tls";
        const format = syslogRecord(config, fields, hostname, taskKey);
        return new RemoteSink({ name, format, transports: () => [transport], octetCount, ...queue, ...until });
      }
      case "logstash":
        return this.#logstash(config, request, { ...queue, ...until });
    }
  }

  #syslogTransport(config: SyslogSink): Transport {
    if (config.transport === "unix") {
      const path = config.path ?? "/dev/log";
      return this.#transport(`unix ${path}`, () => new UnixTransport(path));
    }
    const { address } = config;
    if (address === undefined) throw new Error("a syslog target needs an address");
    if (config.transport === "udp") return this.#transport(`udp ${address} ${config.rate}`, () => new UdpTransport(address, config.rate));
    const tls = config.transport === "tls" ? (config.tls ?? {}) : undefined;
    return this.#transport(`${config.transport} syslog ${address} ${JSON.stringify(tls)}`, () => new StreamTransport(address, tls));
  }

  #logstash(config: LogstashSink, request: FollowRequest, more: Pick<RemoteSinkOptions, "queueBytes" | "until">): Sink {
    const transportTo = (address: string): Transport =>
      config.transport === "udp"
        ? this.#transport(`udp ${address} ${config.rate}`, () => new UdpTransport(address, config.rate))
        : this.#transport(`tcp logstash ${address}`, () => new StreamTransport(address));
    const { discovery, addresses = [] } = config;
    let list = (): readonly string[] => addresses;
    if (discovery !== undefined) {
      const key = JSON.stringify(discovery);
      const consul = this.#consul.get(key) ?? new ConsulAddresses(discovery, (line) => this.#events.log(line));
      this.#consul.set(key, consul);
      list = () => consul.addresses;
    } else if (addresses.length === 0) throw new Error("a Logstash target needs an address");
    for (const address of addresses) transportTo(address);
    const name = config.name ?? `logstash ${config.transport} ${discovery?.service ?? addresses.join(",")}`;
    const format = logstashRecord(request.fields, request.hostname, config.scrape, (reason) => sink.counters.drop(reason));
    const sink: RemoteSink = new RemoteSink({ name, format, transports: () => list().map(transportTo), ...more });
    return sink;
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
