import { type FSWatcher, watch } from "node:fs";

const BUSY_POLLS = 8;
const BUSY_POLL_MS = 25;
/** inotify tells everything on local file systems; this is for the others, and for a lost event. */
const FALLBACK_MS = 5_000;
const UNWATCHED_MS = 500;

/**
 * Tells when a folder's files may have changed. While output flows it looks again after a moment instead of taking an inotify event
 * for each write of the log driver; when it is quiet it watches, and costs nothing.
 */
export class Waker {
  readonly #folder: string;
  #watcher: FSWatcher | undefined;
  #polls = 0;
  #timer: NodeJS.Timeout | undefined;
  #wake: (() => void) | undefined;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Call after something was read. */
  active(): void {
    this.#polls = 0;
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  /** Waits until it is worth to look again. */
  wait(): Promise<void> {
    let delay = BUSY_POLL_MS;
    if (this.#polls >= BUSY_POLLS) {
      if (this.#watcher === undefined && this.#arm())
        delay = 0; // What came before the watch was there is looked at once.
      else delay = this.#watcher === undefined ? UNWATCHED_MS : FALLBACK_MS;
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
    this.#watcher?.close();
    this.#watcher = undefined;
    this.wake();
  }

  #arm(): boolean {
    try {
      this.#watcher = watch(this.#folder, { persistent: false }, () => this.wake());
      this.#watcher.on("error", () => this.active());
      return true;
    } catch {
      return false; // No watches left, or no folder: the slow poll goes on.
    }
  }
}
