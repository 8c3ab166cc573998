import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import fc from "fast-check";
import { KeyFileError, type KeyRing, readKeyRing } from "./key-ring.ts";
import { openRecord, SealedRecordError, sealRecord } from "./sealed-record.ts";

function ring(...ids: string[]): KeyRing {
  const keys = ids.map((id) => ({ id, key: Buffer.alloc(32, id) }));
  return { current: keys[0] as KeyRing["current"], byId: new Map(keys.map((key) => [key.id, key])) };
}

describe("a sealed record", () => {
  it("gives back what was put in, and shows nothing of it", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.string(), (payload, host) => {
        const text = sealRecord(ring("a"), "purpose", host, payload, 5);
        const opened = openRecord(ring("b", "a"), "purpose", text);
        assert.deepEqual(JSON.stringify(opened.payload), JSON.stringify(payload));
        assert.equal(opened.host, host);
        assert.equal(opened.outdatedKey, true);
      }),
    );
    assert.ok(!sealRecord(ring("a"), "purpose", "host", { token: "hvs.plain-text" }, 5).includes("plain-text"));
  });

  it("does not open when anything about it was changed", () => {
    const text = sealRecord(ring("a"), "purpose", "host", { token: "t" }, 5);
    const record = JSON.parse(text) as Record<string, unknown>;
    const flipped = (field: string): string =>
      Buffer.from(Buffer.from(String(record[field]), "base64").map((byte, index) => (index === 0 ? byte ^ 1 : byte))).toString("base64");
    const changes = { keyId: "b", host: "other", writtenAt: 6, iv: flipped("iv"), tag: flipped("tag"), data: flipped("data") };
    for (const [field, value] of Object.entries(changes)) {
      assert.throws(() => openRecord(ring("a", "b"), "purpose", JSON.stringify({ ...record, [field]: value })), SealedRecordError, field);
    }
    assert.throws(() => openRecord(ring("a"), "another purpose", text), /another purpose/);
    assert.throws(() => openRecord(ring("b"), "purpose", text), /with key a, which this host does not have/);
  });

  it("refuses any other text", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        assert.throws(() => openRecord(ring("a"), "purpose", text), SealedRecordError);
      }),
    );
  });
});

describe("readKeyRing", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "berth-fleet-"));
  });
  after(() => rm(folder, { recursive: true }));
  const file = async (text: string, mode = 0o600): Promise<string> => {
    const path = join(folder, randomBytes(4).toString("hex"));
    await writeFile(path, text);
    await chmod(path, mode);
    return path;
  };
  const [one, two] = [randomBytes(32), randomBytes(32)];

  it("encrypts with the first key and keeps the others, in hex and base64, with and without ids", async () => {
    const keys = await readKeyRing(await file(`# rotated\n\n2026-11:${two.toString("base64")}\n${one.toString("hex")}\n`));

    assert.equal(keys.current.id, "2026-11");
    assert.deepEqual(
      [...keys.byId.values()].map(({ key }) => key.toString("hex")),
      [two.toString("hex"), one.toString("hex")],
    );
    assert.match([...keys.byId.keys()][1] ?? "", /^[0-9a-f]{12}$/);
  });

  it("refuses a file that others can read, one without keys, and a key of another length, without naming a key", async () => {
    await assert.rejects(readKeyRing(await file(`k:${one.toString("base64")}`, 0o640)), /can be read by others/);
    await assert.rejects(readKeyRing(await file("# nothing\n")), /holds no key/);
    await assert.rejects(readKeyRing(join(folder, "missing")), /ENOENT/);
    const short = one.subarray(0, 16).toString("base64");
    await assert.rejects(
      readKeyRing(await file(`k:${short}`)),
      (error: Error) => error instanceof KeyFileError && /line 1 of/.test(error.message) && !error.message.includes(short),
    );
  });
});
