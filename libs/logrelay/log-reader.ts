import { existsSync } from "node:fs";
import { dirname } from "node:path";
import type { DockerEndpoint } from "@berth/runtime/docker/engine-types";
import { FileSource } from "./file-source.ts";
import type { Follower } from "./follower.ts";
import { type Line, rawBytes } from "./line.ts";
import { openSource, sandboxFiles } from "./open-source.ts";
import { TextSource } from "./text-source.ts";
import type { LogSource, ReadLine, ReadRequest } from "./types.ts";

const MAX_LINE = 1024 * 1024;
/** Lines handed over at a time. */
const PAGE_BYTES = 256 * 1024;
/** dockerd's stream has no end that a reader could see: it is taken for read when it was quiet for this long. */
const API_QUIET_MS = 300;

/** Reads a task's lines for a person: what is there, its last lines, and then what comes. */
export class LogReader {
  readonly #request: ReadRequest;
  readonly #source: LogSource;
  readonly #docker: DockerEndpoint;
  #sources: Follower[] = [];
  #page: ReadLine[] = [];
  #started = false;

  constructor(request: ReadRequest, source: LogSource, docker: DockerEndpoint) {
    this.#request = request;
    this.#source = source;
    this.#docker = docker;
  }

  async open(): Promise<void> {
    this.#sources = await openReadable(this.#source, this.#docker, this.#request.since);
  }

  /** Some lines; none at the end, or where `signal` aborts. */
  async next(signal?: AbortSignal): Promise<ReadLine[]> {
    if (!this.#started) {
      this.#started = true;
      if (this.#request.tail !== undefined) {
        while (await this.#read(Number.POSITIVE_INFINITY)) this.#page = this.#page.slice(-this.#request.tail || this.#page.length);
        this.#page = this.#request.tail === 0 ? [] : this.#page.slice(-this.#request.tail);
        if (this.#page.length > 0) return this.#take();
      }
    }
    for (;;) {
      if (await this.#read(PAGE_BYTES)) return this.#take();
      if (this.#request.follow !== true) {
        for (const source of this.#sources) source.flush((line) => this.#keep(line));
        return this.#take();
      }
      await this.#wait(signal);
      if (signal?.aborted || this.#sources.length === 0) return [];
    }
  }

  close(): void {
    for (const source of this.#sources) source.close();
    this.#sources = [];
  }

  #take(): ReadLine[] {
    return this.#page.splice(0);
  }

  /** Reads until a page is full or nothing is there; true when there are lines. */
  async #read(most: number): Promise<boolean> {
    const before = this.#page.length;
    let bytes = 0;
    for (const source of this.#sources) {
      for (let some = true; some && bytes < most; ) {
        some = source.read((line) => {
          bytes += line.end - line.start + 1;
          this.#keep(line);
        });
        if (some) await new Promise((resolve) => setImmediate(resolve));
      }
    }
    return this.#page.length > before;
  }

  #keep(line: Line): void {
    if (this.#request.streams !== undefined && !this.#request.streams.includes(line.stream)) return;
    this.#page.push({ stream: line.stream, time: line.time, bytes: Uint8Array.from(rawBytes(line)) });
  }

  async #wait(signal?: AbortSignal): Promise<void> {
    const wake = (): void => {
      for (const source of this.#sources) source.wake();
    };
    signal?.addEventListener("abort", wake, { once: true });
    await Promise.race(this.#sources.map((source) => source.wait()));
    signal?.removeEventListener("abort", wake);
  }
}

/** Opens whatever can be read once: a log file, dockerd's API, or the two text files of a sandbox (those that exist). */
export async function openReadable(source: LogSource, docker: DockerEndpoint, since?: number): Promise<Follower[]> {
  if (source.kind !== "text") {
    const follower = await openSource({
      source,
      docker,
      maxLineBytes: MAX_LINE,
      onGap: () => {},
      ...(since === undefined ? {} : { since }),
    });
    if (source.kind === "api" || !(follower instanceof FileSource)) await new Promise((resolve) => setTimeout(resolve, API_QUIET_MS));
    return [follower];
  }
  return sandboxFiles(source).flatMap((file) => {
    if (!existsSync(dirname(file.path))) return [];
    const text = new TextSource({ files: [file], maxLineBytes: MAX_LINE, relayed: false, onGap: () => {} });
    text.open();
    return [text];
  });
}
