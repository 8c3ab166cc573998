const QUOTE = 34;
const COMMA = 44;
const COLON = 58;
const OPEN_LIST = 91;
const BACKSLASH = 92;
const CLOSE_LIST = 93;
const OPEN = 123;
const CLOSE = 125;

/** A step of a path in a JSON document: one of these keys of an object, or `EACH` entry of a list. */
export type PathStep = ReadonlySet<string> | typeof EACH;
export const EACH = "each entry";

export interface Picked {
  /** The key of the last step that was a key. */
  key: string;
  value: unknown;
}

/** A thread that runs out of memory inside JSON.parse ends the whole process: more than this is not handed to it. */
const MAX_VALUE_BYTES = 16 * 1024 * 1024;

/**
 * Takes the values at `path` out of a JSON document without building the rest of it: a state of Sidecar or of Mesos is megabytes,
 * most of which concerns other hosts, and JSON.parse of it costs ten times its size in memory. What lies off the path is only
 * followed to its end (brackets outside of strings), not judged.
 *
 * Throws when the document ends too soon, has something after its end, or when a value at the path is no JSON or over 16 MiB.
 * `met`: how many steps of the path were found; one that leads to nothing picks nothing.
 */
export function pick(document: Uint8Array, path: readonly PathStep[]): { picked: Picked[]; met: number } {
  const picker = new Picker(document, path);
  picker.document();
  return { picked: picker.picked, met: picker.met };
}

class Picker {
  readonly picked: Picked[] = [];
  met = 0;
  readonly #bytes: Uint8Array;
  readonly #path: readonly PathStep[];
  #at = 0;

  constructor(bytes: Uint8Array, path: readonly PathStep[]) {
    this.#bytes = bytes;
    this.#path = path;
  }

  document(): void {
    this.#value(0, "");
    this.#blank();
    if (this.#at < this.#bytes.length) throw new SyntaxError(`something follows the end of the JSON at byte ${this.#at}`);
  }

  #value(depth: number, key: string): void {
    const byte = this.#blank();
    const step = this.#path[depth];
    const begin = this.#at;
    this.met = Math.max(this.met, depth);
    if (step === undefined) {
      this.#skip();
      if (this.#at - begin > MAX_VALUE_BYTES) throw new Error(`"${key}" in the JSON is over ${MAX_VALUE_BYTES} bytes`);
      this.picked.push({ key, value: JSON.parse(textOf(this.#bytes.subarray(begin, this.#at))) });
    } else if (byte === OPEN && step !== EACH) this.#object(step, depth);
    else if (byte === OPEN_LIST && step === EACH) this.#list(depth, key);
    else this.#skip();
  }

  #object(wanted: ReadonlySet<string>, depth: number): void {
    this.#pass();
    if (this.#blank() === CLOSE) return this.#pass();
    for (;;) {
      if (this.#blank() !== QUOTE) throw this.#unexpected();
      const begin = this.#at;
      this.#string();
      const key = textOf(this.#bytes.subarray(begin + 1, this.#at - 1));
      if (this.#blank() !== COLON) throw this.#unexpected();
      this.#pass();
      if (wanted.has(key)) this.#value(depth + 1, key);
      else this.#skip();
      if (this.#next(CLOSE)) return;
    }
  }

  #list(depth: number, key: string): void {
    this.#pass();
    if (this.#blank() === CLOSE_LIST) return this.#pass();
    do this.#value(depth + 1, key);
    while (!this.#next(CLOSE_LIST));
  }

  #pass(): void {
    this.#at += 1;
  }

  /** Passes a comma, or the end of what it separates: then true. */
  #next(end: number): boolean {
    const byte = this.#blank();
    if (byte !== COMMA && byte !== end) throw this.#unexpected();
    this.#pass();
    return byte === end;
  }

  /** Passes a value of any kind. */
  #skip(): void {
    const byte = this.#blank();
    if (byte === QUOTE) return this.#string();
    if (byte === OPEN || byte === OPEN_LIST) return this.#nest();
    const begin = this.#at;
    while (this.#at < this.#bytes.length && isOfScalar(this.#bytes[this.#at] as number)) this.#at += 1;
    if (this.#at === begin) throw this.#unexpected();
  }

  /** Passes an object or a list: nearly all of a document goes through here. */
  #nest(): void {
    const bytes = this.#bytes;
    const length = bytes.length;
    let at = this.#at;
    let depth = 0;
    while (at < length) {
      const byte = bytes[at++];
      if (byte === QUOTE) {
        this.#at = at - 1;
        this.#string();
        at = this.#at;
      } else if (byte === OPEN || byte === OPEN_LIST) depth += 1;
      else if ((byte === CLOSE || byte === CLOSE_LIST) && --depth === 0) {
        this.#at = at;
        return;
      }
    }
    throw new SyntaxError("the JSON ends too soon");
  }

  #string(): void {
    const bytes = this.#bytes;
    const length = bytes.length;
    let at = this.#at + 1;
    while (at < length) {
      const byte = bytes[at++];
      if (byte === BACKSLASH) at += 1;
      else if (byte === QUOTE) {
        this.#at = at;
        return;
      }
    }
    throw new SyntaxError("the JSON ends too soon");
  }

  /** Passes white space; returns the byte after it. Throws at the end of the document, except after its value. */
  #blank(): number {
    while (this.#at < this.#bytes.length) {
      const byte = this.#bytes[this.#at] as number;
      if (byte !== 32 && byte !== 10 && byte !== 13 && byte !== 9) return byte;
      this.#at += 1;
    }
    return -1;
  }

  #unexpected(): SyntaxError {
    if (this.#at >= this.#bytes.length) return new SyntaxError("the JSON ends too soon");
    return new SyntaxError(`no JSON: unexpected "${String.fromCharCode(this.#bytes[this.#at] as number)}" at byte ${this.#at}`);
  }
}

/** Digits, signs, letters and the point: numbers, true, false, null. */
function isOfScalar(byte: number): boolean {
  return (byte >= 48 && byte <= 57) || (byte >= 97 && byte <= 122) || byte === 45 || byte === 43 || byte === 46 || byte === 69;
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
}
