/** Keeps the last bytes of what is added. */
export class Tail {
  readonly #limit: number;
  #parts: Buffer[] = [];
  #length = 0;
  #dropped = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Bytes that were added and are gone. */
  get dropped(): number {
    return this.#dropped;
  }

  add(data: Buffer): void {
    // A view would keep the whole chunk that it lies in.
    this.#parts.push(Buffer.from(data));
    this.#length += data.length;
    // Cut only now and then, so that a byte is copied a bounded number of times.
    if (this.#length > 2 * this.#limit) this.#cut();
  }

  toString(): string {
    this.#cut();
    return Buffer.concat(this.#parts).toString("utf8");
  }

  #cut(): void {
    if (this.#length <= this.#limit) return;
    const all = Buffer.concat(this.#parts, this.#length);
    const kept = Buffer.from(all.subarray(all.length - this.#limit));
    this.#dropped += all.length - kept.length;
    this.#parts = [kept];
    this.#length = kept.length;
  }
}
