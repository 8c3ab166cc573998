import http, { type IncomingMessage } from "node:http";
import { Demultiplexer } from "@berth/runtime/docker/demultiplex";
import type { DockerEndpoint } from "@berth/runtime/docker/engine-types";
import { Joiner } from "./decoder.ts";
import { BATCH_BYTES } from "./file-follower.ts";
import type { Follower } from "./follower.ts";
import { comparableTime, type Line, timeMs } from "./line.ts";
import type { LogPosition, StreamName } from "./types.ts";

const OPEN_MS = 30_000;
const AGAIN_MS = 1_000;
/**
 * A stream that is silent this long is opened again at its position: dockerd has been seen to stop sending. A container that is silent
 * itself is asked less and less often: dockerd looks through its whole log for what is new.
 */
const SILENT_MS = 60_000;
const MAX_SILENT_FACTOR = 8;
const HIGH_WATER = 256 * 1024;

export interface ApiSourceOptions {
  docker: DockerEndpoint;
  containerId: string;
  tty: boolean;
  maxLineBytes: number;
  position?: Extract<LogPosition, { kind: "time" }>;
  /** Milliseconds since the epoch. */
  since?: number;
  /** What is there now, and no more. */
  once?: boolean;
  /** How long a stream may be silent before it is opened again, milliseconds; default a minute. */
  silentMs?: number;
}

/** The output of a container through dockerd's logs call, for drivers and hosts whose files cannot be read. */
export class ApiSource implements Follower {
  readonly #options: ApiSourceOptions;
  readonly #joiner: Joiner;
  #records: Array<{ stream: StreamName; data: Buffer }> = [];
  #bytes = 0;
  #response: IncomingMessage | undefined;
  #wake: (() => void) | undefined;
  #closed = false;
  #timer: NodeJS.Timeout | undefined;
  #silence: NodeJS.Timeout | undefined;
  #silentFactor = 1;
  /** The time of the last record that was emitted, and how many had it. */
  #last = { time: "", nanoseconds: 0n, count: 0 };
  #skip = { nanoseconds: 0n, count: 0 };
  reopened = 0;
  /** Of a stream that has an end: all of it was received, or no more will be. */
  #complete = false;
  #finishing = false;
  #failure: Error | undefined;
  readonly malformed = 0;

  constructor(options: ApiSourceOptions) {
    this.#options = options;
    this.#joiner = new Joiner(options.maxLineBytes * 2);
    const { position, since } = options;
    if (position !== undefined) this.#last = { time: "", nanoseconds: BigInt(position.nanoseconds), count: position.count };
    else if (since !== undefined) this.#last = { time: "", nanoseconds: BigInt(Math.max(0, Math.trunc(since))) * 1_000_000n, count: 0 };
  }

  get incomplete(): boolean {
    return (this.#options.once === true || this.#finishing) && !this.#closed && (!this.#complete || this.#records.length > 0);
  }

  async open(): Promise<void> {
    await this.#open(true);
  }

  read(emit: (line: Line) => void): boolean {
    let bytes = 0;
    let count = 0;
    for (const { data } of this.#records) {
      if (count > 0 && bytes + data.length > BATCH_BYTES) break;
      bytes += data.length;
      count += 1;
    }
    if (count === 0) return false;
    this.#bytes -= bytes;
    for (const { stream, data } of this.#records.splice(0, count)) this.#record(stream, data, emit);
    if (this.#bytes <= HIGH_WATER) this.#response?.resume();
    return true;
  }

  wait(): Promise<void> {
    if (this.#records.length > 0 || this.#closed || this.#failure !== undefined) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  wake(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  /** Reads the rest without following, as far as there is room for it: whatever state the stream was in, nothing is missing then. */
  async finish(signal: AbortSignal): Promise<void> {
    if (!this.#finishing) await this.#readRest(signal);
    while (this.incomplete && this.#records.length === 0 && this.#failure === undefined && !signal.aborted) await this.wait();
    if (this.#failure !== undefined && !signal.aborted) throw this.#failure;
  }

  async #readRest(signal: AbortSignal): Promise<void> {
    this.#finishing = true;
    this.#complete = false;
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    const before = this.#response;
    this.#response = undefined;
    before?.destroy();
    // What was received and not relayed comes again: the position does not include it.
    this.#records = [];
    this.#bytes = 0;
    const failed = (error: Error): void => {
      this.#failure = error;
      this.#complete = true;
      this.wake();
    };
    const response = await this.#request(false, signal).catch(failed);
    if (response === undefined) return;
    if (this.#closed) return void response.destroy();
    this.#response = response;
    this.#receive(response);
    response.on("error", failed);
    response.on("close", () => {
      this.#complete = true;
      if (!response.complete) this.#failure ??= new Error("dockerd broke its stream off");
      this.wake();
    });
  }

  /** Takes what comes, no faster than it is read. */
  #receive(response: IncomingMessage): void {
    const take = this.#taker();
    response.on("data", (chunk: Buffer) => {
      try {
        take(chunk);
      } catch (error) {
        response.destroy(error as Error);
      }
      if (this.#bytes > HIGH_WATER) response.pause();
      this.wake();
    });
  }

  flush(emit: (line: Line) => void): void {
    this.#joiner.flush(emit);
  }

  position(): LogPosition | undefined {
    // A position in the middle of a line would lose its beginning.
    if (this.#joiner.pending("stdout") !== undefined || this.#joiner.pending("stderr") !== undefined) return undefined;
    return { kind: "time", nanoseconds: String(this.#last.nanoseconds), count: this.#last.count };
  }

  lag(): undefined {
    return undefined;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#response?.destroy();
    this.wake();
  }

  async #open(first: boolean): Promise<void> {
    let response: IncomingMessage;
    try {
      response = await this.#request(this.#options.once !== true);
    } catch (error) {
      if (first) throw error;
      return this.#again();
    }
    if (this.#closed || this.#finishing) return void response.destroy();
    this.#response = response;
    this.#listen(response);
    response.on("data", () => {
      this.#silentFactor = 1;
      this.#listen(response);
    });
    this.#receive(response);
    response.on("error", () => {});
    response.on("close", () => {
      if (this.#response !== response) return;
      this.#response = undefined;
      if (this.#options.once !== true || !response.complete) return this.#again();
      this.#complete = true;
      clearTimeout(this.#silence);
      this.wake();
    });
  }

  #listen(response: IncomingMessage): void {
    clearTimeout(this.#silence);
    const giveUp = (): void => {
      this.#silentFactor = Math.min(this.#silentFactor * 2, MAX_SILENT_FACTOR);
      response.destroy();
    };
    this.#silence = setTimeout(giveUp, (this.#options.silentMs ?? SILENT_MS) * this.#silentFactor).unref();
  }

  #again(): void {
    if (this.#closed || this.#finishing) return;
    this.reopened += 1;
    this.#timer = setTimeout(() => {
      // Received and not relayed yet: it comes again.
      this.#records = [];
      this.#bytes = 0;
      void this.#open(false);
    }, AGAIN_MS);
  }

  #taker(): (chunk: Buffer) => void {
    this.#skip = { nanoseconds: this.#last.nanoseconds, count: this.#last.count };
    const keep = (stream: StreamName, data: Buffer): void => {
      this.#records.push({ stream, data });
      this.#bytes += data.length;
    };
    if (this.#options.tty) {
      let rest: Buffer = Buffer.alloc(0);
      return (chunk) => {
        // Of a line without end no more is kept than is relayed: a progress bar may never end its line.
        const end = rest.length > this.#mostBytes ? chunk.indexOf(10) : 0;
        if (end < 0) return;
        rest = Buffer.concat([rest, end > 0 ? chunk.subarray(end) : chunk]);
        for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
          keep("stdout", rest.subarray(0, end + 1));
          rest = rest.subarray(end + 1);
        }
      };
    }
    const demultiplexer = new Demultiplexer();
    return (chunk) => demultiplexer.push(chunk, ({ stream, data }) => keep(stream === "stderr" ? "stderr" : "stdout", Buffer.from(data)));
  }

  get #mostBytes(): number {
    return this.#options.maxLineBytes * 2;
  }

  #record(stream: StreamName, data: Buffer, emit: (line: Line) => void): void {
    const space = data.indexOf(32);
    const time = space < 0 || space > 40 ? "" : data.toString("latin1", 0, space);
    const nanoseconds = time === "" ? 0n : nanosecondsOf(time);
    if (nanoseconds < this.#skip.nanoseconds) return;
    if (nanoseconds === this.#skip.nanoseconds && this.#skip.count > 0) {
      this.#skip.count -= 1;
      return;
    }
    const count = nanoseconds === this.#last.nanoseconds ? this.#last.count + 1 : 1;
    this.#last = { time, nanoseconds, count };
    const start = time === "" ? 0 : space + 1;
    const last = data[data.length - 1] === 10;
    let end = last ? data.length - 1 : data.length;
    if (this.#options.tty && data[end - 1] === 13) end -= 1;
    this.#joiner.take({ buffer: data, start, end, kind: "raw", stream, time, offset: 0 }, last, emit);
  }

  async #request(follow: boolean, signal?: AbortSignal): Promise<IncomingMessage> {
    const { docker, containerId } = this.#options;
    const { nanoseconds } = this.#last;
    const since = `${nanoseconds / 1_000_000_000n}.${String(nanoseconds % 1_000_000_000n).padStart(9, "0")}`;
    const query = `follow=${follow ? 1 : 0}&stdout=1&stderr=1&timestamps=1&tail=all&since=${since}`;
    const path = `${docker.apiVersion === undefined ? "" : `/${docker.apiVersion}`}/containers/${encodeURIComponent(containerId)}/logs?${query}`;
    const client = docker.tls === undefined ? http : ((await import("node:https")).default as unknown as typeof http);
    const { verify, ...files } = docker.tls ?? { verify: true };
    const tls = docker.tls === undefined ? {} : { ...files, rejectUnauthorized: verify };
    const target =
      docker.socketPath === undefined
        ? { host: docker.host, port: docker.port }
        : { socketPath: docker.socketPath, headers: { host: "docker" } };
    return new Promise((resolve, reject) => {
      const sent = client.get({ ...target, ...tls, path, agent: false, signal } as http.RequestOptions, (response) => {
        clearTimeout(late);
        if (response.statusCode === 200) return resolve(response);
        response.resume();
        reject(new Error(`docker logs of ${containerId}: dockerd answered ${response.statusCode}`));
      });
      const late = setTimeout(() => sent.destroy(new Error(`docker logs of ${containerId}: no answer in ${OPEN_MS / 1000} s`)), OPEN_MS);
      sent.on("socket", (socket) => socket.setKeepAlive(true, AGAIN_MS * 30));
      sent.on("error", (error) => {
        clearTimeout(late);
        reject(error);
      });
    });
  }
}

function nanosecondsOf(time: string): bigint {
  const seconds = timeMs(`${time.slice(0, 19)}Z`);
  return Number.isNaN(seconds) ? 0n : BigInt(seconds) * 1_000_000n + BigInt(comparableTime(time).slice(20, 29));
}
