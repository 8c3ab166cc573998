/**
 * The shapes in which one secret value shows up in text: as it is, escaped in JSON (once or twice), in a URL, and inside
 * base64 at any of its three alignments (`Authorization: Basic` puts the value behind a user name).
 */

/** Below this a base64 fragment would match by chance. */
const MIN_BASE64_FRAGMENT = 8;
/** A line of a longer value is looked for on its own from this length on: logs split a PEM key into its lines. */
const MIN_LINE = 12;

/** All texts that give `value` away, without repeats. The value itself comes first. */
export function formsOf(value: string): string[] {
  const forms = new Set<string>([value]);
  const escaped = jsonEscaped(value);
  forms.add(escaped);
  forms.add(jsonEscaped(escaped));
  forms.add(percentEncoded(value));
  for (const fragment of base64Fragments(value)) forms.add(fragment);
  if (value.includes("\n")) {
    for (const line of value.split(/\r?\n/)) {
      if (line.length >= MIN_LINE && !line.startsWith("-----")) forms.add(line);
    }
  }
  return [...forms];
}

function jsonEscaped(value: string): string {
  return JSON.stringify(value).slice(1, -1);
}

/** `encodeURIComponent` throws on a lone surrogate, which a secret may well hold. */
function percentEncoded(value: string): string {
  return encodeURIComponent(value.toWellFormed());
}

/** The part of the base64 of any text containing `value` that depends on `value` alone, for each of the three alignments. */
function base64Fragments(value: string): string[] {
  const bytes = Buffer.from(value, "utf8");
  const fragments: string[] = [];
  for (const lead of [0, 1, 2]) {
    const text = Buffer.concat([Buffer.alloc(lead), bytes])
      .toString("base64")
      .replace(/=+$/, "");
    // The first `lead` bytes share ceil(lead × 8 / 6) characters with the value; the last character may be shared with what follows.
    const start = Math.ceil((lead * 8) / 6);
    const end = (lead + bytes.length) % 3 === 0 ? text.length : text.length - 1;
    const fragment = text.slice(start, end);
    if (fragment.length < MIN_BASE64_FRAGMENT) continue;
    fragments.push(fragment);
    const urlSafe = fragment.replaceAll("+", "-").replaceAll("/", "_");
    if (urlSafe !== fragment) fragments.push(urlSafe);
  }
  return fragments;
}
