/** One text to look for, and what stands in its place. */
export interface Pattern {
  text: string;
  replacement: string;
  /** Only where no letter or digit touches it: short values would else be cut out of the middle of harmless words. */
  wholeWord: boolean;
}

const KEY_LENGTH = 4;
const FILTER_SIZE = 1 << 16;

/**
 * Finds many fixed texts in one pass: a bitmap over the hash of four characters says for nearly every position that nothing
 * starts there, so the cost is that of reading the text, whatever the number of patterns.
 *
 * INVARIANTS: no pattern is shorter than four characters; a bucket is sorted longest first; a filter byte is the number of
 * buckets (0 or 1) behind it.
 */
export class PatternIndex {
  readonly #filter = new Uint8Array(FILTER_SIZE);
  readonly #buckets = new Map<number, Pattern[]>();

  static readonly minLength = KEY_LENGTH;

  add(pattern: Pattern): void {
    const key = keyAt(pattern.text, 0);
    const bucket = this.#buckets.get(key) ?? [];
    bucket.push(pattern);
    bucket.sort((a, b) => b.text.length - a.text.length);
    this.#buckets.set(key, bucket);
    this.#filter[key] = 1;
  }

  remove(pattern: Pattern): void {
    const key = keyAt(pattern.text, 0);
    const rest = (this.#buckets.get(key) ?? []).filter((other) => other !== pattern);
    if (rest.length > 0) {
      this.#buckets.set(key, rest);
      return;
    }
    this.#buckets.delete(key);
    this.#filter[key] = 0;
  }

  /** `text` with every match replaced; matches that overlap are replaced as one. The same string when nothing matches. */
  replace(text: string): string {
    if (this.#buckets.size === 0) return text;
    let result = "";
    let copied = 0;
    const last = text.length - KEY_LENGTH;
    for (let at = 0; at <= last; at++) {
      const match = this.#matchAt(text, at);
      if (match === undefined) continue;
      let end = at + match.text.length;
      for (let inside = at + 1; inside < end && inside <= last; inside++) {
        const other = this.#matchAt(text, inside);
        if (other !== undefined) end = Math.max(end, inside + other.text.length);
      }
      result += text.slice(copied, at) + match.replacement;
      copied = end;
      at = end - 1;
    }
    return copied === 0 ? text : result + text.slice(copied);
  }

  #matchAt(text: string, at: number): Pattern | undefined {
    const key = keyAt(text, at);
    if (this.#filter[key] === 0) return undefined;
    for (const pattern of this.#buckets.get(key) ?? []) {
      if (!text.startsWith(pattern.text, at)) continue;
      if (pattern.wholeWord && (isWordCharacter(text, at - 1) || isWordCharacter(text, at + pattern.text.length))) continue;
      return pattern;
    }
    return undefined;
  }
}

function keyAt(text: string, at: number): number {
  let hash = text.charCodeAt(at);
  hash = Math.imul(hash, 31) + text.charCodeAt(at + 1);
  hash = Math.imul(hash, 31) + text.charCodeAt(at + 2);
  hash = Math.imul(hash, 31) + text.charCodeAt(at + 3);
  return (hash ^ (hash >>> 16)) & (FILTER_SIZE - 1);
}

function isWordCharacter(text: string, at: number): boolean {
  const code = text.charCodeAt(at);
  return (code >= 48 && code <= 57) || (code >= 65 && code <= 90) || (code >= 97 && code <= 122);
}
