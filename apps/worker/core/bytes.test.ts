import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { concat, uuidBytes } from "./bytes.ts";

test("a uuid is sixteen bytes of version 4 and the right variant, whatever the random bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (random) => {
      const bytes = uuidBytes(() => random.slice());
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
