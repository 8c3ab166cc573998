/** What the log relay is asked to do and what it tells. Everything here survives structured clone: it crosses threads. */

export type StreamName = "stdout" | "stderr";

/** Where a task's output is read from. */
export type LogSource =
  /** The file that Docker's json-file driver writes (`LogPath` of inspect). Where it cannot be read and `containerId` is given, the API is used. */
  | { kind: "json-file"; path: string; containerId?: string; tty?: boolean }
  /** The file of Docker's `local` driver (`<docker root>/containers/<id>/local-logs/container.log`). */
  | { kind: "local-file"; path: string; containerId?: string; tty?: boolean }
  /** dockerd's own logs call: any driver that it can read back, any host. Ten times as dear for dockerd. */
  | { kind: "api"; containerId: string; tty?: boolean }
  /** Bytes that arrive through {@link LogLane.push}: a command task. */
  | { kind: "pushed" }
  /** Plain text files that the task itself writes (the sandbox's stdout and stderr): only for `read` and `lastLogs`. */
  | { kind: "text"; stdoutPath: string; stderrPath: string };

/** The sandbox's stdout and stderr. */
export interface SandboxTarget {
  stdoutPath: string;
  stderrPath: string;
  /**
   * True: the worker's descriptors are these files, and the relay appends to them (O_APPEND, O_NOFOLLOW). False: they are pipes
   * that only the worker holds; bytes come out as `output` events.
   */
  writable: boolean;
}

/** How far a source has been relayed. Opaque to everyone but the relay; a few hundred bytes, kept in the task's checkpoint. */
export type LogPosition =
  | {
      kind: "file";
      inode: string;
      /** Everything before this byte is relayed. */
      offset: number;
      /** One stream may be further than the other, which has an unfinished line at `offset`. */
      ahead?: { stream: StreamName; offset: number };
      /** The last bytes before `offset`, base64: tells a file from another one that got its inode. */
      tail: string;
    }
  /** Everything older than this, and `count` records of exactly this time, are relayed. Nanoseconds since the epoch. */
  | { kind: "time"; nanoseconds: string; count: number };

export type LineFormat = "raw" | "json";

/** A receiver's address: "host:port", "[v6]:port". */
export type HostPort = string;

interface SinkHead {
  /** Shown in statistics and logs. Default: type and target. */
  name?: string;
  /** Milliseconds since the epoch after which this sink gets no more lines (relaying at start-up only). */
  until?: number;
  /** Bytes that may wait for a slow receiver before lines are dropped and counted. Default 4 MiB. */
  queueBytes?: number;
}

/** The sandbox's stdout and stderr, both streams in their own file. */
export interface SandboxSink extends SinkHead {
  type: "sandbox";
  /** `json` is the incumbent's record, in stdout for both streams. Default raw. */
  format?: LineFormat;
  /** A file over this is rotated (`stdout.1`…), `keep` old ones stay. Default 0: not rotated. Never for a target that is not writable. */
  maxBytes?: number;
  keep?: number;
}

/** One JSON object per line in one UDP datagram, without a syslog header: what sidecar-executor sends. */
export interface JsonUdpSink extends SinkHead {
  type: "json-udp";
  address: HostPort;
  /** Datagrams a second at most, so that a receiver's buffer is not overrun. Default 100,000. */
  rate?: number;
}

/** RFC 5424. */
export interface SyslogSink extends SinkHead {
  type: "syslog";
  transport: "udp" | "tcp" | "tls" | "unix";
  /** For udp, tcp and tls. */
  address?: HostPort;
  /** For unix: a datagram socket. Default /dev/log. */
  path?: string;
  tls?: TlsOptions;
  /** Facility number. Default 1 (user). */
  facility?: number;
  /** APP-NAME, cut to 48 characters. Default: the field ServiceName, else the task. */
  appName?: string;
  /** PROCID, cut to 128 characters. */
  procId?: string;
  /** MSGID, cut to 32 characters. Default: the stream's name. */
  msgId?: string;
  /** Structured data, one element with these parameters. */
  structuredData?: { id: string; parameters: Record<string, string> };
  /** Longer messages are cut (the octet count of TCP not counted in). Default 64,000 for udp and unix, no limit for tcp. */
  maxMessageBytes?: number;
  rate?: number;
}

export interface TlsOptions {
  ca?: string;
  cert?: string;
  key?: string;
  serverName?: string;
  /** Default true. */
  verify?: boolean;
}

/** Logstash's JSON lines (`@timestamp`, `@version`, `message`). */
export interface LogstashSink extends SinkHead {
  type: "logstash";
  transport: "tcp" | "udp";
  /** Used in turn, line by line (udp) or batch by batch (tcp). */
  addresses?: HostPort[];
  /** The addresses of a Consul service instead. */
  discovery?: { consulUrl: string; service: string; token?: string; refreshMs: number };
  /** Reads what the task writes as log events. Absent: every line is a message. */
  scrape?: ScrapeOptions;
  rate?: number;
}

/** How lines become events (label log-scraping). */
export interface ScrapeOptions {
  format: "logstash" | "logfmt";
  /** Lines that are no events are sent wrapped; otherwise they go to the sandbox only. */
  all: boolean;
  ignoredKeys: string[];
  /** Lines longer than this are dropped and counted; 0 for no limit. */
  maxLineBytes?: number;
  /** Lines a second; 0 for no limit. */
  rateLimit?: number;
}

/** A file of its own, both streams in it. */
export interface FileSink extends SinkHead {
  type: "file";
  path: string;
  format?: LineFormat;
  maxBytes?: number;
  keep?: number;
}

export type SinkConfig = SandboxSink | JsonUdpSink | SyslogSink | LogstashSink | FileSink;

export interface FollowOptions {
  /** Longer lines are cut with a mark. Default and most: 1 MiB. */
  maxLineBytes?: number;
  /** Lines that do not match this pattern (a RegExp's source) are joined to the line before. */
  multiLine?: { start: string; maxLines?: number; maxWaitMs?: number };
  /** Lines before this are not relayed, milliseconds since the epoch. Without it and without a position: from the container's first line. */
  since?: number;
}

export interface FollowRequest {
  taskKey: string;
  source: LogSource;
  sandbox?: SandboxTarget;
  sinks: SinkConfig[];
  /** Keys and values put into each JSON record (labels, Environment, ServiceName …). */
  fields: Record<string, string>;
  /** The `Hostname` of records and syslog messages. */
  hostname: string;
  position?: LogPosition;
  options?: FollowOptions;
}

/** What came of a followed task so far. */
export interface TaskLogStatistics {
  taskKey: string;
  source: LogSource["kind"];
  lines: number;
  bytes: number;
  /** Lines that were cut at the line limit. */
  cut: number;
  /** Output that Docker deleted or cut off before it could be read: how often, and why last. */
  gaps: number;
  lastGap?: string;
  /** Records of the file that could not be parsed. */
  malformed: number;
  /** Bytes of the log file that are not read yet; undefined where that cannot be known. */
  lagBytes?: number;
  /** How often a silent stream was opened again. */
  reopened: number;
  problem?: string;
  sinks: SinkStatistics[];
}

export interface SinkStatistics {
  name: string;
  sent: number;
  /** Lines not delivered, by reason ("queue full", "receiver away", "too long", "rate limit" …). */
  dropped: Record<string, number>;
  queuedBytes: number;
  /** In words, while something is wrong: "tcp 10.0.0.1:514: connection refused". */
  problem?: string;
}

export interface LogStatistics {
  tasks: TaskLogStatistics[];
  heapUsedBytes: number;
  externalBytes: number;
}

export interface StopRequest {
  taskKey: string;
  /** Reads to the end of what the container wrote and waits for the sinks. False: stops where it is. */
  drain: boolean;
  /** Milliseconds since the epoch; what is not delivered then is dropped and counted. */
  deadline: number;
}

export interface LastLogsRequest {
  taskKey: string;
  source: LogSource;
  sandbox: SandboxTarget;
  /** Milliseconds since the epoch: older output is left out. */
  since: number;
  /** The most that is written, over both streams; the oldest is left out, with a mark. Default 8 MiB. */
  maxBytes?: number;
  /** Nothing is written because the sandbox has it already (ContainerLogsStdout, or a command task's inherited output). */
  alreadyInSandbox: boolean;
  /** Lines returned for the status message. Default 5. Whoever shows them hides secrets first and cuts them then. */
  lines?: number;
}

export interface LastLogs {
  /** The last lines of both streams as they came, not redacted, at most 16 KiB of each. */
  lines: string[];
  written: number;
  truncated: boolean;
  /** Why nothing or not all could be copied. */
  problem?: string;
}

export interface ReadRequest {
  /** A followed task, or … */
  taskKey?: string;
  /** … a source. */
  source?: LogSource;
  /** Milliseconds since the epoch. */
  since?: number;
  /** Only the last so many lines of what is there already. */
  tail?: number;
  follow?: boolean;
  streams?: StreamName[];
}

export interface ReadLine {
  stream: StreamName;
  /** RFC 3339 with nanoseconds; empty for text files. */
  time: string;
  /** Without the line feed. */
  bytes: Uint8Array;
}

export interface ThreadLogLine {
  level: "debug" | "info" | "warn";
  fields: object;
  message: string;
}

/** What the log thread answers to; the facade and the class in the thread both speak it. */
export interface LogThreadMethods {
  follow(request: FollowRequest): void;
  push(request: { taskKey: string; stream: StreamName; bytes: Uint8Array }): void;
  stop(request: StopRequest, signal?: AbortSignal): Promise<TaskLogStatistics | undefined>;
  lastLogs(request: LastLogsRequest, signal?: AbortSignal): Promise<LastLogs>;
  readOpen(request: ReadRequest): Promise<number>;
  /** At least one line, or none at the end. */
  readNext(request: { id: number }, signal?: AbortSignal): Promise<ReadLine[]>;
  /** Nothing more is written: a reader that follows comes to its end. */
  readFinish(request: { id: number }): void;
  readClose(request: { id: number }): void;
  /** The listener of an `output` event has taken it. */
  outputTaken(request: { id: number }): void;
  stats(request: undefined): LogStatistics;
}
