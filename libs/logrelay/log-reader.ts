import { existsSync } from "node:fs";
import type { DockerEndpoint } from "@berth/runtime/docker/engine-types";
import { FileSource } from "./file-source.ts";
import type { Follower } from "./follower.ts";
import { comparableTime, type Line, rawBytes, timeMs } from "./line.ts";
import { openSource } from "./open-source.ts";
import { PlainDecoder } from "./text-decoder.ts";
import type { LogSource, ReadLine, ReadRequest, StreamName } from "./types.ts";

const MAX_LINE = 1024 * 1024;
/** Lines handed over at a time. */
const PAGE_BYTES = 256 * 1024;
const PAGE_LINES = 1000;
/** dockerd's stream has no end that a reader could see: it is taken for read when it was quiet for this long. */
const API_QUIET_MS = 300;

/** What `tail` may hold in memory. */
const MAX_TAIL_BYTES = 64 * 1024 * 1024;
/** What a line costs in memory beside its bytes. */
const LINE_COST = 256;

/** Reads a task's lines for a person: what is there, its last lines, and then what comes. */
export class LogReader {
  readonly #request: ReadRequest;
  readonly #source: LogSource;
  readonly #docker: DockerEndpoint;
  #sources: Follower[] = [];
  #page: ReadLine[] = [];
  #started = false;
  /** Nothing more is written. */
  #over: boolean;
  #closed = false;
  /** The time of the last line read; and that of the last one of an earlier stream. */
  #last = "";
  #after = "";

  constructor(request: ReadRequest, source: LogSource, docker: DockerEndpoint) {
    this.#request = request;
    this.#source = source;
    this.#docker = docker;
    this.#over = request.follow !== true;
  }

  async open(): Promise<void> {
    const once = this.#over || this.#request.tail !== undefined;
    this.#sources = await openReadable(this.#source, this.#docker, this.#request.since, once);
  }

  /** Some lines; none at the end, or where `signal` aborts. */
  async next(signal?: AbortSignal): Promise<ReadLine[]> {
    if (!this.#started) {
      this.#started = true;
      if (this.#request.tail !== undefined) {
        await this.#readTail(this.#request.tail, signal);
        if (!this.#over) await this.#followOn();
      }
      if (this.#page.length > 0) return this.#take();
    }
    for (;;) {
      const over = this.#over;
      if (await this.#read()) return this.#take();
      if (over && !this.#sources.some(({ incomplete }) => incomplete)) return this.#rest(signal);
      await this.#wait(signal);
      if (signal?.aborted || this.#sources.length === 0) return [];
    }
  }

  /** The task is over: what it wrote is read to its end, and that is all. */
  finish(): void {
    this.#over = true;
    for (const source of this.#sources) source.wake();
  }

  close(): void {
    this.#closed = true;
    for (const source of this.#sources) source.close();
    this.#sources = [];
  }

  #take(): ReadLine[] {
    return this.#page.splice(0);
  }

  /** Reads until a page is full or nothing is there; true when there are lines. */
  async #read(): Promise<boolean> {
    let bytes = 0;
    for (const source of this.#sources) {
      await readAll(source, (line) => {
        if (!this.#wants(line)) return true;
        bytes += line.end - line.start + 1;
        this.#page.push(copyOf(line));
        return bytes < PAGE_BYTES;
      });
    }
    return this.#page.length > 0;
  }

  /** The last lines; of a task with two files, of each. */
  async #readTail(count: number, signal?: AbortSignal): Promise<void> {
    for (const source of this.#sources) {
      let last: ReadLine[] = [];
      let bytes = 0;
      const keep = (line: Line): boolean => {
        if (!this.#wants(line) || count === 0) return true;
        last.push(copyOf(line));
        bytes += line.end - line.start + LINE_COST;
        // Not line by line: that would move the whole array each time.
        if (last.length >= 2 * count + PAGE_LINES || bytes > MAX_TAIL_BYTES) {
          last = last.slice(-count);
          bytes = last.reduce((sum, kept) => sum + kept.bytes.length + LINE_COST, 0);
          if (bytes > MAX_TAIL_BYTES) throw new Error(`the last ${count} lines take more than ${MAX_TAIL_BYTES} bytes: ask for fewer`);
        }
        return true;
      };
      await readAll(source, keep, signal);
      while (source.incomplete && !signal?.aborted) {
        await this.#wait(signal, [source]);
        await readAll(source, keep, signal);
      }
      if (this.#over) source.flush(keep);
      for (const line of last.slice(-count)) this.#page.push(line);
    }
  }

  /** The end of what dockerd has is known only of a stream that it ends: what comes after it is another one's. */
  async #followOn(): Promise<void> {
    if (this.#sources.every(({ incomplete }) => incomplete === undefined)) return;
    for (const source of this.#sources.splice(0)) source.close();
    this.#after = this.#last;
    const since = this.#last === "" ? this.#request.since : timeMs(this.#last);
    const sources = await openReadable(this.#source, this.#docker, since);
    if (!this.#closed) this.#sources = sources;
    else for (const source of sources) source.close();
  }

  async #rest(signal?: AbortSignal): Promise<ReadLine[]> {
    if (this.#request.follow === true) {
      for (const source of this.#sources) await source.finish(signal ?? new AbortController().signal);
      if (await this.#read()) return this.#take();
    }
    for (const source of this.#sources) {
      source.flush((line) => {
        if (this.#wants(line)) this.#page.push(copyOf(line));
      });
    }
    return this.#take();
  }

  #wants({ stream, time }: Line): boolean {
    if (time !== "") {
      const comparable = comparableTime(time);
      if (comparable <= this.#after) return false;
      this.#last = comparable;
    }
    return this.#request.streams === undefined || this.#request.streams.includes(stream);
  }

  async #wait(signal?: AbortSignal, sources: readonly Follower[] = this.#sources): Promise<void> {
    if (sources.length === 0) return;
    const wake = (): void => {
      for (const source of sources) source.wake();
    };
    signal?.addEventListener("abort", wake, { once: true });
    await Promise.race(sources.map((source) => source.wait()));
    signal?.removeEventListener("abort", wake);
  }
}

/** Reads for as long as something is there and `take` wants more; other work comes in between. */
async function readAll(source: Follower, take: (line: Line) => boolean, signal?: AbortSignal): Promise<void> {
  for (let more = true; more && !signal?.aborted; ) {
    const some = source.read((line) => {
      more = take(line) && more;
    });
    if (!some) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function copyOf(line: Line): ReadLine {
  return { stream: line.stream, time: line.time, bytes: new Uint8Array(rawBytes(line)) };
}

/** Opens whatever can be read once: a log file, dockerd's API, or the two text files of a sandbox (those that exist). */
export async function openReadable(source: LogSource, docker: DockerEndpoint, since?: number, once = false): Promise<Follower[]> {
  if (source.kind !== "text") {
    const follower = await openSource({
      source,
      docker,
      maxLineBytes: MAX_LINE,
      onGap: () => {},
      once,
      ...(since === undefined ? {} : { since }),
    });
    if (!once && !(follower instanceof FileSource)) await new Promise((resolve) => setTimeout(resolve, API_QUIET_MS));
    return [follower];
  }
  const files: Array<[StreamName, string]> = [
    ["stdout", source.stdoutPath],
    ["stderr", source.stderrPath],
  ];
  const opened: FileSource[] = [];
  try {
    for (const [stream, path] of files) {
      if (!existsSync(path)) continue;
      const file = new FileSource({ path, decoder: new PlainDecoder(stream, MAX_LINE), foreign: true, onGap: () => {} });
      opened.push(file);
      file.open();
    }
    return opened;
  } catch (error) {
    for (const file of opened) file.close();
    throw error;
  }
}
