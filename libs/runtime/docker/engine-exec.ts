import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { pause } from "@berth/retry";
import { Demultiplexer } from "./demultiplex.ts";
import { DockerError, isDockerError } from "./engine-errors.ts";
import type { DockerHttp, DockerStream } from "./engine-http.ts";
import { fields, number, text } from "./engine-read.ts";
import { Tail } from "./engine-tail.ts";
import type { DockerTimeouts } from "./engine-timeouts.ts";
import type { ExecRequest, ExecResult } from "./engine-types.ts";

const DEFAULT_OUTPUT_BYTES = 4096;
/** How long output may trail behind the news that the command has ended, milliseconds. */
const LAST_OUTPUT_MS = 500;
/** How long a killed command may take to be gone. */
const KILLED_WITHIN_MS = 5_000;
const POLL_MS = 50;
/** Set in the environment of every command that is run, so that it can be found where its pid means nothing to us. */
const MARK = "BERTH_EXEC";

interface ExecState {
  running: boolean;
  exitCode: number;
  pid: number;
  containerId: string;
}

/** Runs commands in containers, each to its end or to its time limit. */
export class Execs {
  readonly #http: DockerHttp;
  readonly #timeouts: DockerTimeouts;
  /** dockerd's pids are this host's pids. */
  readonly #local: boolean;
  readonly #died = new Map<string, () => void>();

  constructor(http: DockerHttp, timeouts: DockerTimeouts, options: { local: boolean }) {
    this.#http = http;
    this.#timeouts = timeouts;
    this.#local = options.local;
  }

  /** To be called on dockerd's `exec_die` event: a command's output may be held open by a child long after its end. */
  died(execId: string): void {
    this.#died.get(execId)?.();
  }

  /** Rejects with a DockerError when the container is absent (404) or does not run (409). */
  async run(request: ExecRequest, signal?: AbortSignal): Promise<ExecResult> {
    const mark = randomUUID();
    const execId = await this.#create(request, [...environment(request), `${MARK}=${mark}`], signal);
    const output = new Tail(request.maxOutputBytes ?? DEFAULT_OUTPUT_BYTES);
    const over = new Promise<void>((resolve) => this.#died.set(execId, resolve));
    const timeUp = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    let stream: DockerStream | undefined;
    try {
      stream = await this.#open(request, execId, signal);
      timer = setTimeout(() => timeUp.abort(), request.timeoutMs);
      const closed = readInto(output, stream);
      const lastOutput = over.then(() => Promise.race([closed, pause(LAST_OUTPUT_MS)]));
      await Promise.race([closed, lastOutput, abortOf(timeUp.signal), ...(signal === undefined ? [] : [abortOf(signal)])]);
      const state = await this.#state(request, execId);
      if (!state.running) return { exitCode: state.exitCode, output: output.toString(), timedOut: false };
      if (!timeUp.signal.aborted && !signal?.aborted) {
        // The connection is gone and the command runs on: its end is asked for until its time is up.
        const ended = await this.#ended(request, execId, timeUp.signal, signal);
        if (ended !== undefined) return { exitCode: ended.exitCode, output: output.toString(), timedOut: false };
      }
      const killed = await this.#kill(request, execId, state, mark);
      signal?.throwIfAborted();
      return { output: output.toString(), timedOut: true, killed };
    } catch (error) {
      const refused = neverRan(error);
      if (refused === undefined) throw error;
      return refused;
    } finally {
      clearTimeout(timer);
      stream?.close();
      this.#died.delete(execId);
    }
  }

  async #create(request: ExecRequest, env: string[], signal: AbortSignal | undefined): Promise<string> {
    const answer = await this.#http.call({
      operation: "exec",
      method: "POST",
      path: `/containers/${encodeURIComponent(request.id)}/exec`,
      body: {
        AttachStdout: true,
        AttachStderr: true,
        Tty: false,
        Cmd: request.argv,
        Env: env,
        ...(request.user === undefined ? {} : { User: request.user }),
      },
      subject: request.id,
      container: request.id,
      deadlineMs: this.#timeouts.exec,
      signal,
    });
    return text(fields(answer.body).Id);
  }

  /** The wait for a free connection is bounded as well, but does not count as the command's time. */
  async #open(request: ExecRequest, execId: string, signal: AbortSignal | undefined): Promise<DockerStream> {
    const busy = new AbortController();
    const timer = setTimeout(() => busy.abort(tooBusy(request, this.#timeouts.exec)), this.#timeouts.exec);
    try {
      return await this.#http.stream("execs", {
        operation: "exec",
        method: "POST",
        path: `/exec/${execId}/start`,
        body: { Detach: false, Tty: false },
        subject: request.id,
        deadlineMs: this.#timeouts.exec,
        signal: signal === undefined ? busy.signal : AbortSignal.any([signal, busy.signal]),
      });
    } finally {
      clearTimeout(timer);
    }
  }

  async #state(request: ExecRequest, execId: string): Promise<ExecState> {
    const answer = await this.#http.call({
      operation: "exec",
      method: "GET",
      path: `/exec/${execId}/json`,
      subject: request.id,
      container: request.id,
      deadlineMs: this.#timeouts.exec,
    });
    const state = fields(answer.body);
    return {
      running: state.Running === true,
      exitCode: number(state.ExitCode),
      pid: number(state.Pid),
      containerId: text(state.ContainerID),
    };
  }

  /** Waits for the command's end; undefined when a signal aborts first. */
  async #ended(request: ExecRequest, execId: string, ...signals: Array<AbortSignal | undefined>): Promise<ExecState | undefined> {
    while (!signals.some((signal) => signal?.aborted)) {
      const state = await this.#state(request, execId);
      if (!state.running) return state;
      await pause(POLL_MS);
    }
    return undefined;
  }

  /** Docker cannot kill an exec. Its process group is killed from this host, else from inside the container. */
  async #kill(request: ExecRequest, execId: string, state: ExecState, mark: string): Promise<boolean> {
    if (!(this.#local && (await killGroup(state)))) await this.#killInside(request, mark).catch(() => {});
    return (await this.#ended(request, execId, AbortSignal.timeout(KILLED_WITHIN_MS)).catch(() => undefined)) !== undefined;
  }

  async #killInside(request: ExecRequest, mark: string): Promise<void> {
    const script = `for p in /proc/[0-9]*; do grep -qs ${MARK}=${mark} $p/environ && kill -9 "\${p#/proc/}"; done`;
    const execId = await this.#create({ ...request, argv: ["/bin/sh", "-c", script] }, [], undefined);
    await this.#http.call({
      operation: "exec",
      method: "POST",
      path: `/exec/${execId}/start`,
      body: { Detach: true, Tty: false },
      subject: request.id,
      container: request.id,
      deadlineMs: this.#timeouts.exec,
    });
  }
}

/** Resolves when the connection is closed, however. */
function readInto(output: Tail, { response, close }: DockerStream): Promise<void> {
  const demultiplexer = new Demultiplexer();
  return new Promise((resolve) => {
    response.on("data", (chunk: Buffer) => {
      try {
        demultiplexer.push(chunk, (frame) => output.add(frame.data));
      } catch {
        close(); // Not the protocol that we know: the exit code still counts.
      }
    });
    response.once("close", resolve);
  });
}

function abortOf(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

function environment(request: ExecRequest): string[] {
  return Object.entries(request.environment ?? {}).map(([name, value]) => `${name}=${value}`);
}

/** runc makes each exec a session of its own, so its children die with it. False where the pid is not surely the container's. */
async function killGroup({ pid, containerId }: ExecState): Promise<boolean> {
  if (pid <= 1 || containerId === "") return false;
  try {
    const [cgroup, stat] = await Promise.all([readFile(`/proc/${pid}/cgroup`, "utf8"), readFile(`/proc/${pid}/stat`, "utf8")]);
    if (!cgroup.includes(containerId)) return false;
    const group = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[2]);
    process.kill(group === pid ? -pid : pid, "SIGKILL");
    return true;
  } catch {
    return false;
  }
}

/** A command that is not in the image: newer dockerds answer with a status, older ones with an exit code of 126 or 127. */
function neverRan(error: unknown): ExecResult | undefined {
  if (
    !isDockerError(error) ||
    !/executable file not found|no such file or directory|permission denied|exec format error/i.test(error.detail ?? "")
  )
    return undefined;
  return { exitCode: /not found|no such file/i.test(error.detail) ? 127 : 126, output: error.detail, timedOut: false };
}

function tooBusy(request: ExecRequest, waitedMs: number): DockerError {
  const message = `docker exec of ${request.id}: no connection was free within ${waitedMs / 1000} s: too many commands run in containers at once`;
  return new DockerError(message, { code: "BERTH_DOCKER_TIMEOUT", operation: "exec", recoverable: true });
}
