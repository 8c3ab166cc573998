import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { concat, fromBase64, toBase64, uuidBase64 } from "./bytes.ts";

test("base64 is what Node makes of it, both ways", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const text = Buffer.from(bytes).toString("base64");
      assert.equal(toBase64(bytes), text);
      assert.deepEqual(Buffer.from(fromBase64(text)), Buffer.from(bytes));
    }),
  );
});

test("line breaks in base64 are passed over", () => {
  assert.equal(Buffer.from(fromBase64("aGVs\r\nbG8=\n")).toString(), "hello");
});

test("a uuid is sixteen bytes of version 4 and the right variant, whatever the random bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (random) => {
      const bytes = Buffer.from(
        uuidBase64(() => random.slice()),
        "base64",
      );
      assert.equal(bytes.length, 16);
      assert.equal((bytes[6] as number) >> 4, 4);
      assert.equal((bytes[8] as number) >> 6, 2);
    }),
  );
});

test("joined arrays are all their bytes in order", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 20 })), (parts) => {
      assert.deepEqual(Buffer.from(concat(parts)), Buffer.concat(parts));
    }),
  );
});
