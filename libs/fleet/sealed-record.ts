import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { KeyRing } from "./key-ring.ts";

/** What Redis holds: everything but `data` is public and bound to it. */
interface SealedRecord {
  version: 1;
  keyId: string;
  purpose: string;
  /** The host that wrote it. */
  host: string;
  writtenAt: number;
  iv: string;
  tag: string;
  data: string;
}

export interface OpenedRecord {
  payload: unknown;
  host: string;
  writtenAt: number;
  /** It was written with another key than the one that encrypts now. */
  outdatedKey: boolean;
}

/** A record that none of our keys opens, that was written for another purpose, or that is not one of ours. */
export class SealedRecordError extends Error {
  override readonly name = "SealedRecordError";
}

const CIPHER = "aes-256-gcm";

/** Encrypts `payload` for `purpose` with the ring's first key (AES-256-GCM; key id, purpose, host and time are authenticated). */
export function sealRecord(keys: KeyRing, purpose: string, host: string, payload: unknown, now: number): string {
  const iv = randomBytes(12);
  const { id: keyId, key } = keys.current;
  const cipher = createCipheriv(CIPHER, key, iv);
  cipher.setAAD(associatedData({ keyId, purpose, host, writtenAt: now }));
  const data = Buffer.concat([cipher.update(JSON.stringify(payload), "utf8"), cipher.final()]);
  return JSON.stringify({
    version: 1,
    keyId,
    purpose,
    host,
    writtenAt: now,
    iv: iv.toString("base64"),
    tag: cipher.getAuthTag().toString("base64"),
    data: data.toString("base64"),
  } satisfies SealedRecord);
}

/** Throws {@link SealedRecordError}; the message says what a person has to look at. */
export function openRecord(keys: KeyRing, purpose: string, text: string): OpenedRecord {
  const record = parseRecord(text);
  if (record.purpose !== purpose) throw new SealedRecordError("the fleet's record was written for another purpose");
  const key = keys.byId.get(record.keyId);
  if (key === undefined)
    throw new SealedRecordError(
      `the fleet's record was encrypted by ${record.host} with key ${record.keyId}, which this host does not have`,
    );
  try {
    const decipher = createDecipheriv(CIPHER, key.key, Buffer.from(record.iv, "base64"), { authTagLength: 16 });
    decipher.setAAD(associatedData(record));
    decipher.setAuthTag(Buffer.from(record.tag, "base64"));
    const plain = Buffer.concat([decipher.update(Buffer.from(record.data, "base64")), decipher.final()]).toString("utf8");
    return { payload: JSON.parse(plain), host: record.host, writtenAt: record.writtenAt, outdatedKey: record.keyId !== keys.current.id };
  } catch {
    throw new SealedRecordError(
      `the fleet's record by ${record.host} does not open with this host's key ${record.keyId}: the keys differ, or it was changed`,
    );
  }
}

function associatedData({ keyId, purpose, host, writtenAt }: Pick<SealedRecord, "keyId" | "purpose" | "host" | "writtenAt">): Buffer {
  return Buffer.from(JSON.stringify(["berth", 1, keyId, purpose, host, writtenAt]));
}

function parseRecord(text: string): SealedRecord {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new SealedRecordError("the fleet's record is not JSON");
  }
  const record = value as Partial<Record<keyof SealedRecord, unknown>> | null;
  const texts = [record?.keyId, record?.purpose, record?.host, record?.iv, record?.tag, record?.data];
  if (record?.version !== 1 || typeof record.writtenAt !== "number" || !texts.every((field) => typeof field === "string")) {
    throw new SealedRecordError("the fleet's record has a format that this version does not know");
  }
  return record as SealedRecord;
}
