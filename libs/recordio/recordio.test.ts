import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { encodeRecord, FramingError, RecordDecoder } from "./index.ts";

const records = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 12 });

function decodeAll(pieces: Iterable<Uint8Array>, limit?: number): { got: string[]; decoder: RecordDecoder } {
  const got: string[] = [];
  const decoder = new RecordDecoder((record) => void got.push(Buffer.from(record).toString("hex")), limit);
  for (const piece of pieces) decoder.push(piece);
  return { got, decoder };
}

function* cut(bytes: Uint8Array, sizes: readonly number[]): Iterable<Uint8Array> {
  let at = 0;
  for (let index = 0; at < bytes.length; index++) {
    const size = sizes[index % sizes.length] as number;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

describe("RecordDecoder", () => {
  test("gives the same records however the bytes are cut and joined", () => {
    fc.assert(
      fc.property(records, fc.array(fc.integer({ min: 1, max: 64 }), { minLength: 1 }), (list, sizes) => {
        const bytes = Buffer.concat(list.map(encodeRecord));
        const { got, decoder } = decodeAll(cut(bytes, sizes));
        assert.deepEqual(
          got,
          list.map((record) => Buffer.from(record).toString("hex")),
        );
        assert.ok(decoder.atBoundary);
      }),
    );
  });

  test("takes a stream that is cut in two at any byte, and knows whether it may end there", () => {
    const list = ["", "a", '{"type":"HEARTBEAT"}', "é"].map((text) => Buffer.from(text));
    const frames = list.map(encodeRecord);
    const boundaries = new Set([0]);
    let end = 0;
    for (const frame of frames) {
      end += frame.length;
      boundaries.add(end);
    }
    const bytes = Buffer.concat(frames);
    for (let at = 0; at <= bytes.length; at++) {
      const { got, decoder } = decodeAll([bytes.subarray(0, at)]);
      assert.equal(decoder.atBoundary, boundaries.has(at), `at byte ${at}`);
      decoder.push(bytes.subarray(at));
      assert.equal(got.length, list.length);
    }
  });

  test("refuses a record over its limit before its bytes come, and takes one of the limit", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 10_000 }), (limit) => {
        assert.equal(decodeAll([encodeRecord(new Uint8Array(limit))], limit).got.length, 1);
        assert.throws(() => decodeAll([Buffer.from(`${limit + 1}\n`)], limit), FramingError);
      }),
    );
  });

  for (const length of [
    "\n",
    "x\n",
    "-1\n",
    "1.5\n",
    " 1\n",
    "1 \n",
    "0x10\n",
    "+1\n",
    "1\r\n",
    "99999999999999999999999\n",
    "000000000000000000000\n",
  ]) {
    test(`refuses the length ${JSON.stringify(length)} and all data after it`, () => {
      const got: Uint8Array[] = [];
      const decoder = new RecordDecoder((record) => void got.push(record));
      decoder.push(encodeRecord(Buffer.from("good")));
      assert.throws(() => decoder.push(Buffer.from(length)), FramingError);
      assert.throws(() => decoder.push(encodeRecord(Buffer.from("later"))), FramingError);
      assert.equal(got.length, 1);
    });
  }

  test("never gives anything but the frames before the first flaw, for any bytes", () => {
    fc.assert(
      fc.property(records, fc.uint8Array({ minLength: 1, maxLength: 40 }), (list, junk) => {
        const got: string[] = [];
        const decoder = new RecordDecoder((record) => void got.push(Buffer.from(record).toString("hex")), 1000);
        for (const record of list) decoder.push(encodeRecord(record));
        try {
          decoder.push(junk);
        } catch (error) {
          assert.ok(error instanceof FramingError);
          const before = got.length;
          assert.throws(() => decoder.push(encodeRecord(new Uint8Array(1))), FramingError);
          assert.equal(got.length, before);
        }
        assert.deepEqual(
          got.slice(0, list.length),
          list.map((record) => Buffer.from(record).toString("hex")),
        );
      }),
    );
  });
});

test("the length of a frame counts bytes, not characters", () => {
  assert.equal(Buffer.from(encodeRecord(Buffer.from("é"))).toString(), "2\né");
});
