import type { Observed } from "../runtime.ts";
import type { DockerTimeouts } from "./engine-timeouts.ts";

/** Where dockerd listens and how to speak to it; made by `dockerEndpoint` from the DOCKER_* variables. */
export interface DockerEndpoint {
  /** As a person would write it, for messages: "unix:///var/run/docker.sock". */
  url: string;
  socketPath?: string;
  host?: string;
  port?: number;
  tls?: { ca?: string; cert?: string; key?: string; verify: boolean };
  /** "v1.41", put before every path; undefined lets dockerd use its newest. */
  apiVersion?: string;
}

/** How many connections one host's Berth may hold to dockerd, whatever the number of tasks. */
export interface ConnectionLimits {
  /** Short calls (inspect, create, start, signal…): kept alive and shared. */
  calls: number;
  /** Pulls under way; further ones wait their turn. */
  pulls: number;
  /** Commands run in containers (health checks), each on a connection of its own while it runs. */
  execs: number;
}

/** What the engine's thread is started with; survives structured clone. */
export interface EngineStart {
  endpoint: DockerEndpoint;
  /** Only containers with this label are reported by the event stream: "key" or "key=value". */
  watchLabel: string;
  limits?: Partial<ConnectionLimits>;
  timeouts?: Partial<DockerTimeouts>;
}

/** One container as Berth sees it: what `inspect` says, typed and cut down. */
export interface ContainerSummary {
  id: string;
  name: string;
  /** The image as the create request named it. */
  image: string;
  /** Docker's id of the image that the container was made from ("sha256:…"). */
  imageId: string;
  labels: Record<string, string>;
  /** Never `absent`: a container that is not there has no summary. `addresses` are those of its networks, IPv4 and IPv6. */
  state: Exclude<Observed, { state: "absent" }>;
  /** Docker's own word: created, running, paused, restarting, removing, exited, dead. */
  status: string;
  /** Docker's exit code as it is; 127 or 128 on a container that could not be started. */
  exitCode: number;
  /** Why it could not be started, in dockerd's words; empty when it could. */
  error: string;
  /** Milliseconds since the epoch. */
  createdAt: number;
  /** File that the json-file driver writes; empty for other drivers. On dockerd's host. */
  logPath: string;
  logDriver: string;
  logOptions: Record<string, string>;
  /** With a terminal, output is one raw stream: nothing to demultiplex, no stderr. */
  tty: boolean;
  /** The signal by which the image or the task wants to be stopped ("SIGQUIT", "3"); absent: SIGTERM. */
  stopSignal?: string;
  /** The network mode of the create request ("host", "bridge", "container:<id>", a network's name). */
  networkMode: string;
  /** Host ports as dockerd bound them, also where it chose them itself. */
  ports: PublishedPort[];
  /** dockerd's own health check, where the image or the task has one. */
  health?: "starting" | "healthy" | "unhealthy";
}

export interface PublishedPort {
  containerPort: number;
  protocol: string;
  hostAddress: string;
  hostPort: number;
}

/** One line of `list`. */
export interface ListedContainer {
  id: string;
  name: string;
  image: string;
  imageId: string;
  labels: Record<string, string>;
  /** created, running, paused, restarting, removing, exited, dead. */
  status: string;
  /** Milliseconds since the epoch, whole seconds. */
  createdAt: number;
}

export interface PullRequest {
  /** "host:5000/name:tag" or "name@sha256:…"; without either, `:latest` is meant. */
  reference: string;
  /** Value of the X-Registry-Auth header: base64url, with padding, of a JSON object. Never logged. */
  auth?: string;
  /** Attempts in all for errors that may pass. Default 3. */
  attempts?: number;
}

/** How far a pull is; told at most once a second, and once more at its end. */
export interface PullProgress {
  reference: string;
  /** In words for a person: "pulling 3 of 5 layers, 12.1 of 80.0 MB". */
  message: string;
  layers: number;
  layersDone: number;
  /** Bytes over all layers whose size is known so far. */
  downloaded: number;
  total: number;
  attempt: number;
}

/** The `POST /containers/create` body; made by the plan, passed through as it is. */
export type CreateBody = Record<string, unknown>;

/** `conflict`: the name is taken; the owner decides by the labels whether that container is its own. */
export type CreateResult =
  | { id: string; warnings: string[]; conflict?: undefined }
  | { id?: undefined; conflict: { id: string; labels: Record<string, string>; status: string } };

export interface ConnectNetworkRequest {
  id: string;
  network: string;
  /** `EndpointConfig` of the Docker API (Aliases, IPAMConfig …). */
  endpointConfig?: Record<string, unknown>;
}

/** `started`: this call did it. `alreadyRunning`: dockerd said 304. */
export type StartResult = "started" | "alreadyRunning";
/** What became of a signal: no such container and a container that does not run are answers, not errors. */
export type SignalResult = "sent" | "notRunning" | "absent";
/** `inProgress`: another removal of it is under way. */
export type RemoveResult = "removed" | "absent" | "inProgress";

export interface ExecRequest {
  id: string;
  argv: readonly string[];
  /** Added to the container's own environment. */
  environment?: Readonly<Record<string, string>>;
  user?: string;
  /** After this long the process is killed in the container and the result says `timedOut`. */
  timeoutMs: number;
  /** How much of the output's end is kept. Default 4096 bytes. */
  maxOutputBytes?: number;
}

export interface ExecResult {
  /** Undefined when it timed out. */
  exitCode?: number;
  /** The end of stdout and stderr, as they came, decoded as UTF-8. */
  output: string;
  timedOut: boolean;
  /** Only with `timedOut`: whether the process is known to be gone. False where dockerd or its host did not let us. */
  killed?: boolean;
}

export interface LogsRequest {
  id: string;
  /** Nanoseconds since the epoch, inclusive. */
  since?: bigint;
  until?: bigint;
  /** Only the last so many lines. */
  tail?: number;
  /** Keep only the end of the output. Default 1 MiB. */
  maxBytes?: number;
}

export interface LogChunk {
  stream: "stdout" | "stderr";
  data: Uint8Array;
}

export interface LogsResult {
  chunks: LogChunk[];
  /** Bytes left out before the first chunk because of `maxBytes`. */
  dropped: number;
}

export interface EngineVersion {
  version: string;
  apiVersion: string;
  minApiVersion: string;
  operatingSystem: string;
  architecture: string;
}

export interface EngineInfo {
  id: string;
  name: string;
  serverVersion: string;
  storageDriver: string;
  loggingDriver: string;
  cgroupDriver: string;
  cgroupVersion: string;
  dockerRootDir: string;
  liveRestore: boolean;
  cpus: number;
  memoryBytes: number;
  containersRunning: number;
  /** What dockerd says this host cannot do ("No swap limit support"): limits that a task would be started without. */
  warnings: string[];
}

/** What the engine's thread weighs and what it has to do; for metrics and `berth doctor`. */
export interface EngineStatistics {
  heapUsedBytes: number;
  heapTotalBytes: number;
  externalBytes: number;
  /** Open sockets to dockerd by use. */
  connections: { calls: number; pulls: number; execs: number; logs: number; events: number };
  /** Calls that wait for a connection or for their container's turn. */
  waiting: number;
  calls: number;
  failures: number;
  timeouts: number;
  /** How often the event stream was opened. */
  eventStreamsOpened: number;
}

export interface ContainerEvent {
  id: string;
  name: string;
  action: "start" | "die" | "oom" | "kill" | "stop" | "destroy" | "pause" | "unpause" | "restart" | "health_status";
  /** With `die`. */
  exitCode?: number;
  /** With `health_status`: healthy, unhealthy, starting. With `kill`: the signal's number. */
  detail?: string;
  /** dockerd's clock, nanoseconds since the epoch. */
  timeNano: bigint;
  /** The container's labels and dockerd's own attributes of the event. */
  attributes: Record<string, string>;
}

/** Events out of the engine. */
export interface EngineEvents {
  container: [ContainerEvent];
  /** Events may have been missed: inspect every task again. */
  resync: [{ reason: string }];
  /** dockerd answers and the event stream is open. */
  up: [{ since: number }];
  /** dockerd does not answer, or the event stream cannot be opened. `since` in milliseconds: the last time it was well. Told once per outage. */
  down: [{ reason: string; since: number }];
}

/** The thread's methods as they cross threads: one argument each. The facade and the class in the thread both speak it. */
export interface EngineMethods {
  /** Opens the event stream (once); `since` continues an earlier thread's, nanoseconds, and `resumed` says that there was one. */
  watch(request: { since?: bigint; resumed?: boolean }): Promise<void>;
  ping(request: undefined, signal?: AbortSignal): Promise<void>;
  version(request: undefined, signal?: AbortSignal): Promise<EngineVersion>;
  info(request: undefined, signal?: AbortSignal): Promise<EngineInfo>;
  imagePresent(request: { reference: string }, signal?: AbortSignal): Promise<string | undefined>;
  pull(request: PullRequest & { follow?: number }, signal?: AbortSignal): Promise<{ imageId: string }>;
  create(request: { name: string; body: CreateBody; platform?: string }, signal?: AbortSignal): Promise<CreateResult>;
  connectNetwork(request: ConnectNetworkRequest, signal?: AbortSignal): Promise<void>;
  start(request: { id: string }, signal?: AbortSignal): Promise<StartResult>;
  inspect(request: { id: string }, signal?: AbortSignal): Promise<ContainerSummary | undefined>;
  environmentOf(request: { id: string; names: readonly string[] }, signal?: AbortSignal): Promise<Record<string, string>>;
  signal(request: { id: string; signal: string }, signal?: AbortSignal): Promise<SignalResult>;
  remove(request: { id: string; force?: boolean; volumes?: boolean }, signal?: AbortSignal): Promise<RemoveResult>;
  list(request: { labels: readonly string[] }, signal?: AbortSignal): Promise<ListedContainer[]>;
  rename(request: { id: string; name: string }, signal?: AbortSignal): Promise<void>;
  exec(request: ExecRequest, signal?: AbortSignal): Promise<ExecResult>;
  logs(request: LogsRequest, signal?: AbortSignal): Promise<LogsResult>;
  statistics(request: undefined): Promise<EngineStatistics>;
}
