import { DockerError, isConflict, isDockerError, isNotFound } from "./engine-errors.ts";
import { EventStream } from "./engine-events.ts";
import { Execs } from "./engine-exec.ts";
import { runFailure } from "./engine-failures.ts";
import { type DockerAnswer, DockerHttp, type DockerRequest } from "./engine-http.ts";
import { readLogs } from "./engine-logs.ts";
import { ImagePuller } from "./engine-pull.ts";
import { fields, items, readContainer, readEnvironment, readInfo, readList, readVersion, text } from "./engine-read.ts";
import { DOCKER_TIMEOUTS, type DockerTimeouts } from "./engine-timeouts.ts";
import type {
  ConnectNetworkRequest,
  ContainerSummary,
  CreateBody,
  CreateResult,
  EngineEvents,
  EngineInfo,
  EngineMethods,
  EngineStart,
  EngineStatistics,
  EngineVersion,
  ExecRequest,
  ExecResult,
  ListedContainer,
  LogsRequest,
  LogsResult,
  PullProgress,
  PullRequest,
  RemoveResult,
  SignalResult,
  StartResult,
} from "./engine-types.ts";

type Emit = <Name extends keyof EngineEvents>(name: Name, ...detail: EngineEvents[Name]) => void;

/** The engine itself: everything Berth asks of dockerd, with answers made of dockerd's statuses. Lives in the docker thread; needs none. */
export class EngineConnection implements EngineMethods {
  readonly #http: DockerHttp;
  readonly #timeouts: DockerTimeouts;
  readonly #puller: ImagePuller;
  readonly #execs: Execs;
  readonly #events: EventStream;
  readonly #onProgress: (follow: number, progress: PullProgress) => void;
  #watching = false;

  private constructor(http: DockerHttp, start: EngineStart, emit: Emit, onProgress: (follow: number, progress: PullProgress) => void) {
    this.#http = http;
    this.#timeouts = { ...DOCKER_TIMEOUTS, ...start.timeouts };
    this.#onProgress = onProgress;
    this.#puller = new ImagePuller(http, this.#timeouts);
    this.#execs = new Execs(http, this.#timeouts, { local: start.endpoint.socketPath !== undefined });
    this.#events = new EventStream({
      http,
      timeouts: this.#timeouts,
      label: start.watchLabel,
      emit,
      onExecDied: (execId) => this.#execs.died(execId),
    });
  }

  /** Makes an engine; it connects when it is first asked something. */
  static async open(
    start: EngineStart,
    emit: Emit,
    onProgress: (follow: number, progress: PullProgress) => void,
  ): Promise<EngineConnection> {
    return new EngineConnection(await DockerHttp.open(start.endpoint, start.limits), start, emit, onProgress);
  }

  async watch(resume: { since?: bigint; resumed?: boolean }): Promise<void> {
    if (this.#watching) return;
    this.#watching = true;
    void this.#events.run(resume);
  }

  async ping(_request?: undefined, signal?: AbortSignal): Promise<void> {
    await this.#http.call({ operation: "ping", method: "GET", path: "/_ping", deadlineMs: this.#timeouts.ping, signal });
  }

  async version(_request?: undefined, signal?: AbortSignal): Promise<EngineVersion> {
    const answer = await this.#http.call({
      operation: "version",
      method: "GET",
      path: "/version",
      deadlineMs: this.#timeouts.version,
      signal,
    });
    return readVersion(answer.body);
  }

  async info(_request?: undefined, signal?: AbortSignal): Promise<EngineInfo> {
    const answer = await this.#http.call({ operation: "info", method: "GET", path: "/info", deadlineMs: this.#timeouts.info, signal });
    return readInfo(answer.body);
  }

  async imagePresent({ reference }: { reference: string }, signal?: AbortSignal): Promise<string | undefined> {
    return await this.#puller.imagePresent(reference, signal);
  }

  async pull({ follow, ...request }: PullRequest & { follow?: number }, signal?: AbortSignal): Promise<{ imageId: string }> {
    const tell = follow === undefined ? undefined : (progress: PullProgress) => this.#onProgress(follow, progress);
    return await this.#puller.pull(request, tell, signal);
  }

  async create(request: { name: string; body: CreateBody; platform?: string }, signal?: AbortSignal): Promise<CreateResult> {
    // A holder that is gone when it is looked at has left the name free: once more.
    return (
      (await this.#createOnce(request, signal)) ?? (await this.#createOnce(request, signal)) ?? Promise.reject(nameStaysTaken(request.name))
    );
  }

  async #createOnce(
    { name, body, platform }: { name: string; body: CreateBody; platform?: string },
    signal?: AbortSignal,
  ): Promise<CreateResult | undefined> {
    const image = text(body.Image);
    const request: DockerRequest = {
      operation: "create",
      method: "POST",
      path: "/containers/create",
      query: { name, platform },
      body,
      subject: name,
      container: name,
      deadlineMs: this.#timeouts.create,
      signal,
    };
    const answer = await this.#answer(request, [409], (error) => (isMissingImage(error) ? error : runFailure(error, "created", image)));
    if (answer.statusCode !== 409) {
      const { Id, Warnings } = fields(answer.body);
      return { id: text(Id), warnings: items(Warnings).map(text) };
    }
    const holder = await this.inspect({ id: name }, signal);
    return holder && { conflict: { id: holder.id, labels: holder.labels, status: holder.status } };
  }

  async connectNetwork({ id, network, endpointConfig }: ConnectNetworkRequest, signal?: AbortSignal): Promise<void> {
    const request: DockerRequest = {
      operation: "connect network",
      method: "POST",
      path: `/networks/${encodeURIComponent(network)}/connect`,
      body: { Container: id, ...(endpointConfig === undefined ? {} : { EndpointConfig: endpointConfig }) },
      subject: `${id} to ${network}`,
      container: id,
      deadlineMs: this.#timeouts.connectNetwork,
      signal,
    };
    await this.#answer(request, [], (error) => {
      // Said of a repeated connect; which is what was wanted.
      if (/already exists in network|already connected|endpoint with name .* already exists/i.test(error.detail)) return undefined;
      return isMissingContainer(error) ? error : runFailure(error, `connected to network ${network}`);
    });
  }

  async start({ id }: { id: string }, signal?: AbortSignal): Promise<StartResult> {
    const answer = await this.#answer(this.#about(id, "start", "POST", "/start", this.#timeouts.start, signal), [304], (error) =>
      isMissingContainer(error) ? error : runFailure(error, "started"),
    );
    return answer.statusCode === 304 ? "alreadyRunning" : "started";
  }

  async inspect({ id }: { id: string }, signal?: AbortSignal): Promise<ContainerSummary | undefined> {
    const answer = await this.#http.call(this.#about(id, "inspect", "GET", "/json", this.#timeouts.inspect, signal), [404]);
    return answer.statusCode === 404 ? undefined : readContainer(answer.body);
  }

  async environmentOf({ id, names }: { id: string; names: readonly string[] }, signal?: AbortSignal): Promise<Record<string, string>> {
    const answer = await this.#http.call(this.#about(id, "inspect", "GET", "/json", this.#timeouts.inspect, signal), [404]);
    return answer.statusCode === 404 ? {} : readEnvironment(answer.body, names);
  }

  async signal({ id, signal: name }: { id: string; signal: string }, signal?: AbortSignal): Promise<SignalResult> {
    const request = { ...this.#about(id, "signal", "POST", "/kill", this.#timeouts.signal, signal), query: { signal: name } };
    const answer = await this.#answer(request, [404, 409], (error) => (/is not running/i.test(error.detail) ? undefined : error));
    if (answer.statusCode === 404) return "absent";
    return answer.statusCode === 204 ? "sent" : "notRunning";
  }

  async remove(
    { id, force = false, volumes = false }: { id: string; force?: boolean; volumes?: boolean },
    signal?: AbortSignal,
  ): Promise<RemoveResult> {
    const request = { ...this.#about(id, "remove", "DELETE", "", this.#timeouts.remove, signal), query: { force, v: volumes } };
    const answer = await this.#answer(request, [404], (error) => (/already in progress/i.test(error.detail) ? undefined : error));
    if (answer.statusCode === 404) return "absent";
    return answer.statusCode === 204 ? "removed" : "inProgress";
  }

  async list({ labels }: { labels: readonly string[] }, signal?: AbortSignal): Promise<ListedContainer[]> {
    const answer = await this.#http.call({
      operation: "list",
      method: "GET",
      path: "/containers/json",
      query: { all: true, filters: JSON.stringify({ label: labels }) },
      deadlineMs: this.#timeouts.list,
      signal,
    });
    return readList(answer.body);
  }

  async rename({ id, name }: { id: string; name: string }, signal?: AbortSignal): Promise<void> {
    await this.#http.call({ ...this.#about(id, "rename", "POST", "/rename", this.#timeouts.rename, signal), query: { name } });
  }

  async exec(request: ExecRequest, signal?: AbortSignal): Promise<ExecResult> {
    return await this.#execs.run(request, signal);
  }

  async logs(request: LogsRequest, signal?: AbortSignal): Promise<LogsResult> {
    const raw = (await this.inspect({ id: request.id }, signal))?.tty ?? false;
    return await readLogs(this.#http, request, raw, this.#timeouts.logs, signal);
  }

  async statistics(): Promise<EngineStatistics> {
    const { heapUsed, heapTotal, external } = process.memoryUsage();
    return {
      heapUsedBytes: heapUsed,
      heapTotalBytes: heapTotal,
      externalBytes: external,
      ...this.#http.statistics,
      eventStreamsOpened: this.#events.opened,
    };
  }

  /** Ends the event stream and rejects every call that is under way. */
  close(): void {
    this.#events.stop();
    this.#http.close();
  }

  #about(
    id: string,
    operation: string,
    method: DockerRequest["method"],
    path: string,
    deadlineMs: number,
    signal?: AbortSignal,
  ): DockerRequest {
    return { operation, method, path: `/containers/${encodeURIComponent(id)}${path}`, subject: id, container: id, deadlineMs, signal };
  }

  /** A call whose refusals `judge` turns into the error to throw, or into an answer (undefined). */
  async #answer(
    request: DockerRequest,
    answers: readonly number[],
    judge: (error: DockerError) => Error | undefined,
  ): Promise<DockerAnswer> {
    try {
      return await this.#http.call(request, answers);
    } catch (error) {
      if (!isDockerError(error) || error.statusCode === undefined) throw error;
      const verdict = judge(error);
      if (verdict !== undefined) throw verdict;
      return { statusCode: error.statusCode, headers: {}, body: undefined };
    }
  }
}

function nameStaysTaken(name: string): DockerError {
  return new DockerError(`docker create of ${name}: dockerd says that the name is taken, but knows no such container; look at its log`, {
    code: "BERTH_DOCKER_HTTP",
    operation: "create",
    statusCode: 409,
    recoverable: true,
  });
}

/** Create answers 404 for the image alone; start for the container, and for a network or device that is missing. */
function isMissingImage(error: DockerError): boolean {
  return isNotFound(error) && /no such image/i.test(error.detail);
}

function isMissingContainer(error: DockerError): boolean {
  return (
    (isNotFound(error) && /no such container/i.test(error.detail) && !/network/i.test(error.detail)) ||
    (isConflict(error) && /marked for removal/i.test(error.detail))
  );
}
