import type { Follower } from "./follower.ts";
import { type Line, nowTime } from "./line.ts";
import { TextFile, type TextFileOptions } from "./text-file.ts";
import type { LogPosition, StreamName, TextPlace } from "./types.ts";
import { Waker } from "./waker.ts";

export interface TextSourceOptions {
  files: ReadonlyArray<{ stream: StreamName; path: string }>;
  maxLineBytes: number;
  position?: Extract<LogPosition, { kind: "text" }>;
  onGap: TextFileOptions["onGap"];
}

/** What the worker itself logs to the stderr that it shares with its child: `2026-11-21T09:15:21.123Z berth-worker: …`. */
const WORKERS_OWN = Buffer.from("Z berth-worker: ");
const WORKERS_OWN_AT = "2026-11-21T09:15:21.123".length;
const NOWHERE: TextPlace = { inode: "", offset: 0, tail: "" };

/**
 * The sandbox's stdout and stderr as a source: a command task whose process writes to them itself. Each line gets the time of its
 * reading, and the worker's own are left out.
 */
export class TextSource implements Follower {
  readonly #files: readonly TextFile[];
  #waker: Waker | undefined;
  readonly malformed = 0;
  readonly reopened = 0;

  constructor(options: TextSourceOptions) {
    const { files, maxLineBytes, position, onGap } = options;
    this.#files = files.map(
      ({ stream, path }) =>
        new TextFile({ stream, path, maxLineBytes, onGap, ...(position === undefined ? {} : { place: position[stream] }) }),
    );
  }

  open(): void {
    for (const file of this.#files) file.open();
    this.#waker = new Waker(this.#files.flatMap(({ watchable }) => watchable ?? []));
  }

  read(emit: (line: Line) => void): boolean {
    const time = nowTime();
    const take = (line: Line): void => (isWorkersOwn(line) ? undefined : emit({ ...line, time }));
    let some = false;
    for (const file of this.#files) if (file.read(take)) some = true;
    if (some) this.#waker?.active();
    return some;
  }

  async wait(): Promise<void> {
    await this.#waker?.wait();
  }

  wake(): void {
    this.#waker?.wake();
  }

  async finish(): Promise<void> {}

  flush(emit: (line: Line) => void): void {
    const time = nowTime();
    for (const file of this.#files) file.flush((line) => emit({ ...line, time }));
  }

  position(): LogPosition {
    const of = (stream: StreamName): TextPlace => this.#files.find((file) => file.stream === stream)?.place() ?? NOWHERE;
    return { kind: "text", stdout: of("stdout"), stderr: of("stderr") };
  }

  lag(): number {
    return this.#files.reduce((sum, file) => sum + file.lag(), 0);
  }

  close(): void {
    this.#waker?.close();
    for (const file of this.#files) file.close();
  }
}

function isWorkersOwn({ buffer, start, end, stream }: Line): boolean {
  const at = start + WORKERS_OWN_AT;
  return stream === "stderr" && end - at >= WORKERS_OWN.length && buffer.subarray(at, at + WORKERS_OWN.length).equals(WORKERS_OWN);
}
