import { createHash } from "node:crypto";
import { TaskFailure } from "@berth/mesos/task-failure";
import { type BackoffPolicy, retry } from "@berth/retry";
import { DockerError, isDockerDown, isDockerError, isNotFound, isTimeout } from "./engine-errors.ts";
import { completeReference, pullFailure, registryOf } from "./engine-failures.ts";
import type { DockerHttp } from "./engine-http.ts";
import { readLines } from "./engine-lines.ts";
import { PullMeter } from "./engine-pull-meter.ts";
import { fields, text } from "./engine-read.ts";
import type { DockerTimeouts } from "./engine-timeouts.ts";
import type { PullProgress, PullRequest } from "./engine-types.ts";

const DEFAULT_ATTEMPTS = 3;
const BACKOFF: Omit<BackoffPolicy, "attempts"> = { firstDelayMs: 1_000, maxDelayMs: 30_000 };
const PROGRESS_EVERY_MS = 1_000;

interface Flight {
  result: Promise<{ imageId: string }>;
  followers: Set<(progress: PullProgress) => void>;
  waiting: number;
  controller: AbortController;
}

/**
 * Pulls images. INVARIANTS: one pull at a time for one reference with one set of credentials, whoever asks; it ends early only
 * when all who asked have given up; no task's credentials serve another's pull.
 */
export class ImagePuller {
  readonly #http: DockerHttp;
  readonly #timeouts: DockerTimeouts;
  readonly #backoff: Omit<BackoffPolicy, "attempts">;
  readonly #flights = new Map<string, Flight>();

  constructor(http: DockerHttp, timeouts: DockerTimeouts, backoff: Omit<BackoffPolicy, "attempts"> = BACKOFF) {
    this.#http = http;
    this.#timeouts = timeouts;
    this.#backoff = backoff;
  }

  /** The id of the local image of that name, or undefined. */
  async imagePresent(reference: string, signal?: AbortSignal): Promise<string | undefined> {
    const complete = completeReference(reference);
    try {
      const answer = await this.#http.call({
        operation: "image inspect",
        method: "GET",
        path: `/images/${complete.split("/").map(encodeURIComponent).join("/")}/json`,
        subject: complete,
        deadlineMs: this.#timeouts.inspect,
        signal,
      });
      return text(fields(answer.body).Id) || undefined;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      // dockerd says "invalid reference format" here already; the pull's message is the better one.
      if (isDockerError(error) && error.statusCode === 400) throw pullFailure({ reference }, error.detail, 400);
      throw error;
    }
  }

  async pull(request: PullRequest, onProgress?: (progress: PullProgress) => void, signal?: AbortSignal): Promise<{ imageId: string }> {
    signal?.throwIfAborted();
    const flight = this.#join(request);
    if (onProgress !== undefined) flight.followers.add(onProgress);
    flight.waiting += 1;
    try {
      return await Promise.race([flight.result, ...(signal === undefined ? [] : [rejectOnAbort(signal)])]);
    } finally {
      flight.waiting -= 1;
      if (onProgress !== undefined) flight.followers.delete(onProgress);
      if (flight.waiting === 0) flight.controller.abort(new Error("nobody waits for this pull any more"));
    }
  }

  #join(request: PullRequest): Flight {
    const reference = completeReference(request.reference);
    const key = createHash("sha256")
      .update(`${reference}\n${request.auth ?? ""}`)
      .digest("hex");
    const known = this.#flights.get(key);
    if (known !== undefined && !known.controller.signal.aborted) return known;
    const controller = new AbortController();
    const followers: Flight["followers"] = new Set();
    const tell = (progress: PullProgress): void => {
      for (const follower of followers) follower(progress);
    };
    const result = this.#attempts({ ...request, reference }, tell, controller.signal);
    const flight: Flight = { result, followers, waiting: 0, controller };
    this.#flights.set(key, flight);
    const land = (): void => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    };
    result.then(land, land);
    return flight;
  }

  async #attempts(request: PullRequest, tell: (progress: PullProgress) => void, signal: AbortSignal): Promise<{ imageId: string }> {
    const attempts = request.attempts ?? DEFAULT_ATTEMPTS;
    const registry = registryOf(request.reference);
    return await retry({ ...this.#backoff, attempts }, (attempt) => this.#once(request, attempt, tell, signal), {
      signal,
      recoverable: (error) => isDockerDown(error) || (TaskFailure.is(error) && error.recoverable),
      onFailure: ({ error, attempt, delayMs }) => {
        const message = `attempt ${attempt} of ${attempts} failed, next in ${(delayMs / 1000).toFixed(1)} s: ${(error as Error).message}`;
        tell({ ...new PullMeter(request.reference, attempt).progress(), message: `${registry}: ${message}` });
      },
    });
  }

  async #once(
    request: PullRequest,
    attempt: number,
    tell: (progress: PullProgress) => void,
    signal: AbortSignal,
  ): Promise<{ imageId: string }> {
    const meter = new PullMeter(request.reference, attempt);
    try {
      await this.#transfer(request, meter, tell, signal);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (isTimeout(error)) throw this.#stalled(request, `did not begin within ${this.#timeouts.pullBegin / 1000} s`, error);
      if (isDockerError(error) && error.statusCode !== undefined) throw pullFailure(request, error.detail, error.statusCode);
      throw error;
    }
    const imageId = await this.imagePresent(request.reference, signal);
    if (imageId === undefined) throw pullFailure(request, "the pull ended without an error, but the image is not there", undefined);
    tell({ ...meter.progress(), message: "pulled" });
    return { imageId };
  }

  async #transfer(request: PullRequest, meter: PullMeter, tell: (progress: PullProgress) => void, signal: AbortSignal): Promise<void> {
    const stream = await this.#http.stream("pulls", {
      operation: "pull",
      method: "POST",
      path: "/images/create",
      query: { fromImage: request.reference },
      subject: request.reference,
      deadlineMs: this.#timeouts.pullBegin,
      ...(request.auth === undefined ? {} : { headers: { "x-registry-auth": request.auth } }),
      signal,
    });
    let silent = false;
    const watchdog = setTimeout(() => {
      silent = true;
      stream.close();
    }, this.#timeouts.pullSilence);
    let lastTold = 0;
    try {
      const cut = await readLines(stream.response, (line) => {
        watchdog.refresh();
        const message = fields(JSON.parse(line));
        const error = text(fields(message.errorDetail).message) || text(message.error);
        if (error !== "") throw pullFailure(request, error, undefined);
        meter.take(message);
        if (performance.now() - lastTold < PROGRESS_EVERY_MS) return;
        lastTold = performance.now();
        tell(meter.progress());
      });
      if (silent) throw this.#stalled(request, `made no progress for ${this.#timeouts.pullSilence / 1000} s`);
      if (cut !== undefined) throw brokeOff(request, cut);
    } finally {
      clearTimeout(watchdog);
      stream.close();
    }
  }

  #stalled(request: PullRequest, what: string, cause?: unknown): TaskFailure {
    const message = `image ${request.reference} cannot be pulled from ${registryOf(request.reference)}: the pull ${what}; check the registry and dockerd's log`;
    return new TaskFailure(message, { recoverable: true, cause });
  }
}

function brokeOff(request: PullRequest, cause: Error): DockerError {
  const message = `docker pull of ${request.reference}: the connection to dockerd broke off: ${cause.message}`;
  return new DockerError(message, { code: "BERTH_DOCKER_UNREACHABLE", operation: "pull", recoverable: true, cause });
}

function rejectOnAbort(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));
}
