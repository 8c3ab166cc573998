import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { StateSplitter } from "./state-splitter.ts";

test("finds each object of a stream, however it is cut", () => {
  const object = fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.jsonValue()));
  fc.assert(
    fc.property(fc.array(object, { maxLength: 5 }), fc.integer({ min: 1, max: 7 }), (objects, size) => {
      const bytes = Buffer.from(objects.map((each) => JSON.stringify(each)).join(""));
      const splitter = new StateSplitter();
      const found: unknown[] = [];

      for (let at = 0; at < bytes.length; at += size) {
        for (const value of splitter.push(bytes.subarray(at, at + size))) found.push(JSON.parse(value.toString()));
      }

      assert.deepEqual(found, JSON.parse(JSON.stringify(objects)));
    }),
  );
});

test("an object over the limit ends the stream", () => {
  assert.throws(() => new StateSplitter(10).push(Buffer.from('{"a":"0123456789')), /over 10 bytes/);
});
