/** Less than this is the clocks' own noise and NTP's gentle pulling, milliseconds. */
const TOLERANCE_MS = 1000;

/** Notices when the host's wall clock was set: by what it moves apart from the monotonic one. */
export class ClockJumps {
  readonly #wall: () => number;
  readonly #monotonic: () => number;
  #offset: number;

  constructor(wall: () => number, monotonic: () => number) {
    this.#wall = wall;
    this.#monotonic = monotonic;
    this.#offset = wall() - monotonic();
  }

  /** By how many milliseconds the wall clock was set since the last call; 0 when it was not. */
  take(): number {
    const offset = this.#wall() - this.#monotonic();
    const jump = offset - this.#offset;
    this.#offset = offset;
    return Math.abs(jump) < TOLERANCE_MS ? 0 : jump;
  }
}
