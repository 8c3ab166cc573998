import { formsOf } from "./forms.ts";
import { type Pattern, PatternIndex } from "./pattern-index.ts";

export interface MaskOptions {
  /** Who needs the value masked: a task's key, or a part of the daemon. {@link SecretRegistry.release} forgets all of a holder at once. */
  holder: string;
  /** The variable that carries the value. A value too short to be looked for everywhere is still masked as `NAME=value`. */
  name?: string;
}

interface Entry {
  value: string;
  holders: Set<string>;
  patterns: Pattern[];
}

/** Shorter values are replaced only where no letter or digit touches them. */
const WHOLE_WORD_BELOW = 8;
/** Words that configuration is made of: replacing them everywhere would make logs unreadable and hide nothing. */
const COMMON_WORDS = new Set([
  "true",
  "false",
  "null",
  "none",
  "undefined",
  "default",
  "enabled",
  "disabled",
  "localhost",
  "http",
  "https",
]);

/**
 * The values that must not be read by people, and where each came from: `mask` puts `[secret from <source>]` in their place.
 * Lives in the main thread; a worker thread hands over what it would log and what it learns.
 *
 * INVARIANTS: a value is masked for as long as one holder has it, under the source that was registered first; after the last
 * release nothing of it is kept. Values under four characters, numbers of up to five digits and a few common words are not
 * looked for on their own, only as `NAME=value` and `"NAME":"value"`, and as a whole string by `maskDeep`.
 */
export class SecretRegistry {
  readonly #entries = new Map<string, Entry>();
  readonly #weak = new Map<string, string>();
  readonly #index = new PatternIndex();

  /** How many distinct values are masked. */
  get size(): number {
    return this.#entries.size;
  }

  /** Masks `value` from now on. `source` is shown instead: "vault://secret/app?key=password", "VAULT_TOKEN". */
  add(value: string, source: string, options: MaskOptions): void {
    if (value === "") return;
    const weak = isWeak(value);
    const key = weak ? `${options.name ?? ""}=${value}` : value;
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = { value, holders: new Set(), patterns: patternsFor(value, source, options.name) };
      this.#entries.set(key, entry);
      for (const pattern of entry.patterns) this.#index.add(pattern);
      if (weak && !this.#weak.has(value)) this.#weak.set(value, labelFor(source));
    }
    entry.holders.add(options.holder);
  }

  /** Forgets everything of `holder`. Values that others registered too stay masked. */
  release(holder: string): void {
    for (const [key, entry] of this.#entries) {
      if (!entry.holders.delete(holder) || entry.holders.size > 0) continue;
      for (const pattern of entry.patterns) this.#index.remove(pattern);
      this.#entries.delete(key);
      if (this.#weak.has(entry.value) && ![...this.#entries.values()].some(({ value }) => value === entry.value))
        this.#weak.delete(entry.value);
    }
  }

  /** `text` without any registered value in it. */
  mask(text: string): string {
    return this.#index.replace(text);
  }

  /**
   * A line of JSON without any registered value in it, and still JSON: a number or a key that is a secret becomes a string.
   */
  maskJsonLine(line: string): string {
    const masked = this.mask(line);
    if (masked === line) return line;
    try {
      JSON.parse(masked);
      return masked;
    } catch {
      return this.#maskParsed(line, masked);
    }
  }

  #maskParsed(line: string, masked: string): string {
    try {
      return JSON.stringify(this.maskDeep(JSON.parse(line))) + (line.endsWith("\n") ? "\n" : "");
    } catch {
      return masked;
    }
  }

  /** A copy of `value` with every string, key and number in it masked; parts without a secret are shared with the original. */
  maskDeep<T>(value: T): T {
    return this.#maskAny(value, new Map()) as T;
  }

  #maskAny(value: unknown, seen: Map<object, unknown>): unknown {
    if (typeof value === "string") return this.#weak.get(value) ?? this.mask(value);
    if (typeof value === "number" || typeof value === "bigint") {
      const text = String(value);
      const masked = this.mask(text);
      return masked === text ? value : masked;
    }
    if (typeof value !== "object" || value === null) return value;
    if (seen.has(value)) return seen.get(value);
    if (Array.isArray(value)) {
      const copy: unknown[] = [];
      seen.set(value, copy);
      for (const item of value) copy.push(this.#maskAny(item, seen));
      return copy.some((item, index) => item !== value[index]) ? copy : value;
    }
    // Its name and message are getters that a copy would not have.
    if (value instanceof DOMException) return new DOMException(this.mask(value.message), value.name);
    if (value instanceof Error) return this.#maskError(value, seen);
    if (value instanceof Map) return new Map(this.#maskAny([...value], seen) as Array<[unknown, unknown]>);
    if (value instanceof Set) return new Set(this.#maskAny([...value], seen) as unknown[]);
    if (value instanceof Date || ArrayBuffer.isView(value)) return value;
    return this.#maskObject(value, seen);
  }

  #maskObject(value: object, seen: Map<object, unknown>): unknown {
    const copy: Record<string, unknown> = {};
    seen.set(value, copy);
    let changed = false;
    for (const [key, item] of Object.entries(value)) {
      const maskedKey = this.mask(key);
      const maskedItem = this.#maskAny(item, seen);
      changed ||= maskedKey !== key || maskedItem !== item;
      Object.defineProperty(copy, maskedKey, { value: maskedItem, enumerable: true, writable: true, configurable: true });
    }
    return changed ? copy : value;
  }

  #maskError(error: Error, seen: Map<object, unknown>): Error {
    const copy = Object.create(Object.getPrototypeOf(error) as object) as Error;
    seen.set(error, copy);
    const own = Object.fromEntries(Object.entries(error).map(([key, item]) => [key, this.#maskAny(item, seen)]));
    Object.assign(copy, own);
    for (const key of ["name", "message", "stack"] as const) {
      const text = error[key];
      if (text !== undefined) Object.defineProperty(copy, key, { value: this.mask(text), configurable: true, writable: true });
    }
    if (error.cause !== undefined) Object.defineProperty(copy, "cause", { value: this.#maskAny(error.cause, seen), configurable: true });
    return copy;
  }
}

function isWeak(value: string): boolean {
  return value.length < PatternIndex.minLength || /^\d{1,5}$/.test(value) || COMMON_WORDS.has(value.toLowerCase());
}

function patternsFor(value: string, source: string, name: string | undefined): Pattern[] {
  const label = labelFor(source);
  if (isWeak(value)) return name === undefined ? [] : namedPatterns(value, name, label);
  return formsOf(value)
    .filter((form) => form.length >= PatternIndex.minLength)
    .map((text) => ({ text, replacement: label, wholeWord: text.length < WHOLE_WORD_BELOW }));
}

function namedPatterns(value: string, name: string, label: string): Pattern[] {
  const escaped = JSON.stringify(value).slice(1, -1);
  return [
    { text: `${name}=${value}`, replacement: `${name}=${label}`, wholeWord: true },
    { text: `"${name}":"${escaped}"`, replacement: `"${name}":"${label}"`, wholeWord: false },
    { text: `"${name}": "${escaped}"`, replacement: `"${name}": "${label}"`, wholeWord: false },
  ].filter(({ text }) => text.length >= PatternIndex.minLength);
}

/** The label must fit into a JSON string as it is. */
function labelFor(source: string): string {
  return `[secret from ${source.replace(/["\\\p{Cc}]/gu, "_")}]`;
}
