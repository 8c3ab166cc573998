/** A `vault://` value, taken apart. */
export interface SecretReference {
  /** As written, for messages and the redaction registry. */
  written: string;
  /** Mount and path without slashes at their ends: "secret/app/db". */
  path: string;
  /** From `path@3`: that version of a KV v2 secret. */
  version?: number;
  /** From `?key=`: a field, or dots between the fields of nested JSON. */
  key: string;
}

const SCHEME = "vault://";
const MAX_LENGTH = 2048;

/** A reference that says no path that Vault could be asked for. The message is fit for a status message. */
export class VaultReferenceError extends Error {
  override readonly name = "VaultReferenceError";
}

/** Whether any value of an environment must be looked up in Vault. Only whole values count, as the older executors had it. */
export function hasReference(environment: Readonly<Record<string, string>>): boolean {
  return Object.values(environment).some(isReference);
}

export function isReference(value: string): boolean {
  return value.startsWith(SCHEME);
}

/**
 * Reads `vault://<mount>/<path>[@version][?key=<name>]`. Parts of the path may be percent-encoded; other parameters are
 * refused rather than ignored. Throws {@link VaultReferenceError}.
 */
export function parseReference(written: string): SecretReference {
  if (!isReference(written)) throw new VaultReferenceError("it does not start with vault://");
  if (written.length > MAX_LENGTH) throw new VaultReferenceError(`it is longer than ${MAX_LENGTH} characters`);
  if (written.includes("#")) throw new VaultReferenceError("it holds a #; name the field by ?key=");
  const [rawPath = "", rawQuery] = splitOnce(written.slice(SCHEME.length), "?");
  const versioned = /^(.*[^/])@(\d{1,9})$/s.exec(rawPath);
  const version = versioned === null ? undefined : Number(versioned[2]);
  if (version === 0) throw new VaultReferenceError("versions count from 1");
  const path = pathFrom(versioned?.[1] ?? rawPath);
  const key = keyFrom(rawQuery);
  return version === undefined ? { written, path, key } : { written, path, version, key };
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

function pathFrom(raw: string): string {
  const segments = raw
    .replace(/^\/+|\/+$/g, "")
    .split("/")
    .map(decoded);
  if (segments.length < 2) throw new VaultReferenceError("it needs a mount and a path: vault://secret/app?key=name");
  for (const segment of segments) {
    if (segment === "") throw new VaultReferenceError("a part of its path is empty");
    if (segment === "." || segment === "..") throw new VaultReferenceError("its path holds . or ..");
    if (/[\p{Cc}/]/u.test(segment)) throw new VaultReferenceError("its path holds a character that no path can have");
  }
  return segments.join("/");
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new VaultReferenceError("its path has a % that encodes nothing");
  }
}

function keyFrom(query: string | undefined): string {
  if (query === undefined || query === "") return "value";
  const parameters = new URLSearchParams(query);
  for (const name of parameters.keys()) {
    if (name !== "key") throw new VaultReferenceError("the only parameter it can have is key");
  }
  const key = parameters.get("key") ?? "";
  if (key === "") throw new VaultReferenceError("its key is empty");
  return key;
}

/** The path as it goes into a request: every part encoded on its own. */
export function encodePath(path: string): string {
  return path.split("/").map(encodeSegment).join("/");
}

/** Also encodes what `encodeURIComponent` leaves alone and the Vault client would turn into an HTML entity. */
export function encodeSegment(segment: string): string {
  return encodeURIComponent(segment.toWellFormed()).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
