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
  /** Plain text files that a command task itself writes: the sandbox's stdout and stderr. Each is opened as what a stranger may have put there. */
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
  /** The two files of a command task. */
  | { kind: "text"; stdout: TextPlace; stderr: TextPlace }
  /** How many bytes of each stream of a command task are relayed, of those that its worker hands in. */
  | { kind: "pushed"; stdout: number; stderr: number }
  /** Everything older than this, and `count` records of exactly this time, are relayed. Nanoseconds since the epoch. */
  | { kind: "time"; nanoseconds: string; count: number };

/** A place in a file that somebody else writes and rotates. */
export interface TextPlace {
  inode: string;
  /** Everything before this byte is relayed. */
  offset: number;
  /** The last bytes before `offset`, base64: tells the file from itself after it was cut off and filled again. */
  tail: string;
}

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
  /** Paths of PEM files, read at each connection. Default for `ca`: what Node and the system trust. */
  ca?: string;
  cert?: string;
  key?: string;
  /** The name that the receiver's certificate must have. Default: the address's host. */
  serverName?: string;
  /** Default true. */
  verify?: boolean;
}

/** Logstash's JSON lines (`@timestamp`, `@version`, `message`). */
export interface LogstashSink extends SinkHead {
  type: "logstash";
  transport: "tcp" | "udp";
  /** Used in turn, batch by batch; one that is away is left out. */
  addresses?: HostPort[];
  /** The addresses of a Consul service instead. */
  discovery?: { consulUrl: string; service: string; token?: string; refreshMs: number };
  /** For tcp, milliseconds: how long a connection may take to open (default 10 s), and the silence before keep-alive probes (default 30 s). */
  connectMs?: number;
  keepAliveMs?: number;
  /** Reads what the task writes as log events. Absent: every line is a message. */
  scrape?: ScrapeOptions;
  rate?: number;
}

/** How lines become events (label log-scraping). */
export interface ScrapeOptions {
  format: "logstash" | "logfmt";
  /** Lines that are no events are sent wrapped; otherwise they are counted as "no event", and stay where the task's output is kept. */
  all: boolean;
  ignoredKeys: string[];
  /** Put into each event, over what the task itself wrote under these names. */
  fields?: Record<string, string | number>;
  /** Records longer than this, their line feed counted in, are dropped and counted; 0 for no limit. */
  maxRecordBytes?: number;
  /** Lines a second; 0 for no limit. */
  rateLimit?: number;
}

/** A file of its own, both streams in it. */
export interface FileSink extends SinkHead {
  type: "file";
  /** A name without a slash is a file in the sandbox. */
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

/** Output of a command task, handed in. */
export interface PushRequest {
  taskKey: string;
  stream: StreamName;
  bytes: Uint8Array;
  /** How many bytes of the stream came before these; absent from a worker that does not count them. */
  offset?: number;
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
  type: SinkConfig["type"];
  name: string;
  sent: number;
  /** Lines not delivered, by reason ("queue full", "receiver away", "too long", "rate limit" …). */
  dropped: Record<string, number>;
  queuedBytes: number;
  /** Lines that are still on their way when the task is over: they go on for a while. Absent for none. */
  left?: number;
  /** Lines that went out a second time after a connection broke. Absent for none. */
  resent?: number;
  /** In words, while something is wrong: "tcp 10.0.0.1:514: connection refused". */
  problem?: string;
}

export interface LogStatistics {
  tasks: TaskLogStatistics[];
  /** Of all tasks since the thread began, those included that are over. */
  totals: LogTotals;
  /** Bytes of tasks that are over, on their way to receivers that are away or slow. */
  leftBytes: number;
  heapUsedBytes: number;
  externalBytes: number;
}

export interface LogTotals {
  lines: number;
  bytes: number;
  cut: number;
  gaps: number;
  /** By a sink's type. */
  sinks: Partial<Record<SinkConfig["type"], { sent: number; resent: number; dropped: Record<string, number> }>>;
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
  push(request: PushRequest): void;
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
