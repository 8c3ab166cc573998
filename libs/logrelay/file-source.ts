import { dirname } from "node:path";
import type { Decoder } from "./decoder.ts";
import { FileFollower, type FileFollowerOptions } from "./file-follower.ts";
import type { Follower } from "./follower.ts";
import type { Line } from "./line.ts";
import type { LogPosition } from "./types.ts";
import { Waker } from "./waker.ts";

/** A log file on this host as a source. */
export class FileSource implements Follower {
  readonly #decoder: Decoder;
  readonly #follower: FileFollower;
  readonly #waker: Waker;
  readonly reopened = 0;

  constructor(options: FileFollowerOptions) {
    this.#decoder = options.decoder;
    this.#follower = new FileFollower(options);
    this.#waker = new Waker(dirname(options.path));
  }

  get malformed(): number {
    return this.#decoder.malformed;
  }

  open(): void {
    this.#follower.open();
  }

  read(emit: (line: Line) => void): boolean {
    const some = this.#follower.read(emit);
    if (some) this.#waker.active();
    return some;
  }

  wait(): Promise<void> {
    return this.#waker.wait();
  }

  wake(): void {
    this.#waker.wake();
  }

  async finish(): Promise<void> {}

  flush(emit: (line: Line) => void): void {
    this.#decoder.flush(emit);
  }

  position(): LogPosition | undefined {
    return this.#follower.position();
  }

  lag(): number {
    return this.#follower.lag();
  }

  close(): void {
    this.#waker.close();
    this.#follower.close();
  }
}
