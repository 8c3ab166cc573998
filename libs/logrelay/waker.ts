import { type FSWatcher, watch } from "node:fs";

const BUSY_POLLS = 8;
const BUSY_POLL_MS = 25;
/** inotify tells everything on local file systems; this is for the others, and for a lost event. */
const FALLBACK_MS = 5_000;
const UNWATCHED_MS = 500;

/**
 * Tells when files, or those of a folder, may have changed. While output flows it looks again after a moment instead of taking an inotify event
 * for each write of the log driver; when it is quiet it watches, and costs nothing.
 */
export class Waker {
  readonly #paths: readonly string[];
  #watchers: FSWatcher[] | undefined;
  #polls = 0;
  #timer: NodeJS.Timeout | undefined;
  #wake: (() => void) | undefined;

  constructor(paths: string | readonly string[]) {
    this.#paths = typeof paths === "string" ? [paths] : paths;
  }

  /** Call after something was read. */
  active(): void {
    this.#polls = 0;
    this.#disarm();
  }

  /** Waits until it is worth to look again. */
  wait(): Promise<void> {
    let delay = BUSY_POLL_MS;
    if (this.#polls >= BUSY_POLLS) {
      if (this.#watchers === undefined && this.#arm())
        delay = 0; // What came before the watch was there is looked at once.
      else delay = this.#watchers === undefined ? UNWATCHED_MS : FALLBACK_MS;
    }
    this.#polls += 1;
    return new Promise((resolve) => {
      this.#wake = resolve;
      this.#timer = setTimeout(() => this.wake(), delay);
    });
  }

  wake(): void {
    clearTimeout(this.#timer);
    this.#wake?.();
    this.#wake = undefined;
  }

  close(): void {
    this.#disarm();
    this.wake();
  }

  #arm(): boolean {
    this.#watchers = [];
    try {
      for (const path of this.#paths) {
        const watcher = watch(path, { persistent: false }, () => this.wake());
        watcher.on("error", () => this.active());
        this.#watchers.push(watcher);
      }
      return true;
    } catch {
      this.#disarm();
      return false; // No watches left, or no folder: the slow poll goes on.
    }
  }

  #disarm(): void {
    for (const watcher of this.#watchers ?? []) watcher.close();
    this.#watchers = undefined;
  }
}
