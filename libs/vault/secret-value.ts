import { isRecord } from "./shapes.ts";

/** Why a secret has no usable value under a key. Says nothing of what is there. */
export class SecretValueError extends Error {
  override readonly name = "SecretValueError";
}

/**
 * The text under `key` in a secret's fields. The key as it stands comes first; else its dots lead into nested JSON, also into JSON that
 * is stored as text. Numbers and booleans become their text, lists and objects their JSON. Throws {@link SecretValueError}.
 */
export function pickValue(fields: Record<string, unknown>, key: string): string {
  const found = Object.hasOwn(fields, key) ? fields[key] : walk(fields, key);
  if (found === undefined) throw new SecretValueError(`the secret has no key ${JSON.stringify(key)}`);
  const text = textOf(found);
  if (text === undefined) throw new SecretValueError(`the key ${JSON.stringify(key)} holds null`);
  if (text.includes("\0")) throw new SecretValueError(`the key ${JSON.stringify(key)} holds a NUL byte, which no environment variable can`);
  return text;
}

function walk(fields: Record<string, unknown>, key: string): unknown {
  let at: unknown = fields;
  for (const step of key.split(".")) {
    const inside = typeof at === "string" ? parsed(at) : at;
    if (Array.isArray(inside) && /^\d{1,6}$/.test(step)) at = inside[Number(step)];
    else if (isRecord(inside) && Object.hasOwn(inside, step)) at = inside[step];
    else return undefined;
  }
  return at;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function textOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (value === null || value === undefined) return undefined;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
