import { createHash } from "node:crypto";
import { open } from "node:fs/promises";

export interface FleetKey {
  /** Short public name of the key, stored beside what it encrypted. */
  id: string;
  key: Buffer;
}

/** Keys by their ids; the first one of the file encrypts, all of them decrypt. */
export interface KeyRing {
  current: FleetKey;
  byId: ReadonlyMap<string, FleetKey>;
}

/** A key file that cannot be used. Never names a key. */
export class KeyFileError extends Error {
  override readonly name = "KeyFileError";
}

const KEY_BYTES = 32;
const MAX_FILE_BYTES = 16 * 1024;

/**
 * Reads a key file: one key per line as `<id>:<base64 or hex of 32 bytes>`, or without an id, which is then made from the key's
 * hash; empty lines and lines with a leading # are skipped. To rotate, put the new key first and keep the old one below it
 * until every host has the file. Only its owner may be able to read the file, and the owner is root or this process's user.
 */
export async function readKeyRing(path: string): Promise<KeyRing> {
  const text = await readOwnFile(path);
  const keys: FleetKey[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const trimmed = line.trim();
    if (trimmed !== "" && !trimmed.startsWith("#")) keys.push(parseKey(trimmed, `line ${index + 1} of the fleet key file ${path}`));
  }
  const [current] = keys;
  if (current === undefined) throw new KeyFileError(`the fleet key file ${path} holds no key`);
  return { current, byId: new Map(keys.map((key) => [key.id, key])) };
}

function parseKey(line: string, where: string): FleetKey {
  const match = /^(?:([A-Za-z0-9._-]{1,64}):)?([A-Za-z0-9+/_=-]+)$/.exec(line);
  const encoded = match?.[2] ?? "";
  const key = /^[0-9a-fA-F]{64}$/.test(encoded) ? Buffer.from(encoded, "hex") : Buffer.from(encoded, "base64");
  if (key.length !== KEY_BYTES) throw new KeyFileError(`${where} is not <id>:<base64 of ${KEY_BYTES} bytes>`);
  return { id: match?.[1] ?? createHash("sha256").update("berth fleet key id").update(key).digest("hex").slice(0, 12), key };
}

async function readOwnFile(path: string): Promise<string> {
  try {
    const handle = await open(path, "r");
    try {
      const info = await handle.stat();
      if (!info.isFile() || info.size > MAX_FILE_BYTES) throw new KeyFileError(`the fleet key file ${path} is not a small regular file`);
      if (info.uid !== 0 && info.uid !== process.geteuid?.())
        throw new KeyFileError(`the fleet key file ${path} belongs to user ${info.uid}`);
      if ((info.mode & 0o077) !== 0) throw new KeyFileError(`the fleet key file ${path} can be read by others; chmod 600 it`);
      return await handle.readFile("utf8");
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof KeyFileError) throw error;
    throw new KeyFileError(`the fleet key file cannot be read: ${(error as NodeJS.ErrnoException).code} ${path}`);
  }
}
