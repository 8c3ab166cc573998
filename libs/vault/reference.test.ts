import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { encodePath, hasReference, parseReference, VaultReferenceError } from "./reference.ts";

describe("parseReference", () => {
  for (const [written, expected] of [
    ["vault://secret/app", { path: "secret/app", key: "value" }],
    ["vault://secret/app/db?key=user", { path: "secret/app/db", key: "user" }],
    ["vault:///secret/app/?key=a.b.0", { path: "secret/app", key: "a.b.0" }],
    ["vault://secret/app@12?key=user", { path: "secret/app", version: 12, key: "user" }],
    ["vault://secret/me@example.org", { path: "secret/me@example.org", key: "value" }],
    ["vault://secret/with%20space/%C5%BC?key=a+b%26c", { path: "secret/with space/ż", key: "a b&c" }],
    ["vault://secret/app?", { path: "secret/app", key: "value" }],
  ] as const) {
    it(`reads ${written}`, () => assert.deepEqual(parseReference(written), { written, ...expected }));
  }

  for (const [written, words] of [
    ["vault://", /a mount and a path/],
    ["vault://secret", /a mount and a path/],
    ["vault://secret//app", /is empty/],
    ["vault://secret/../sys/raw", /\. or \.\./],
    ["vault://secret/%2e%2e/sys/raw", /\. or \.\./],
    ["vault://secret/a%2Fb", /no path can have/],
    ["vault://secret/a%00", /no path can have/],
    ["vault://secret/a%zz", /encodes nothing/],
    ["vault://secret/app#key", /\?key=/],
    ["vault://secret/app?field=x", /the only parameter/],
    ["vault://secret/app?key=", /key is empty/],
    ["vault://secret/app@0", /count from 1/],
    [`vault://secret/${"a".repeat(3000)}`, /longer than/],
  ] as const) {
    it(`refuses ${written.slice(0, 40)}`, () => assert.throws(() => parseReference(written), words));
  }

  it("gives a path that a request can carry, or says what is wrong, for any text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 200 }), (rest) => {
        try {
          const { path, key } = parseReference(`vault://${rest}`);
          const url = new URL(`http://vault/v1/${encodePath(path)}`);
          assert.equal(url.search, "");
          assert.equal(url.hash, "");
          assert.equal(url.pathname, `/v1/${encodePath(path)}`);
          assert.deepEqual(url.pathname.split("/").slice(2).map(decodeURIComponent), path.toWellFormed().split("/"));
          assert.notEqual(key, "");
        } catch (error) {
          assert.ok(error instanceof VaultReferenceError, String(error));
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it("reads back every path and key that is written with encoding", () => {
    const segment = fc
      .string({ minLength: 1, unit: "grapheme" })
      .filter((text) => !/[\p{Cc}/]/u.test(text) && text !== "." && text !== "..");
    fc.assert(
      fc.property(fc.array(segment, { minLength: 2, maxLength: 6 }), fc.string({ minLength: 1 }), (segments, key) => {
        const path = segments.join("/");
        fc.pre(!/@\d+$/.test(path));
        const written = `vault://${encodePath(path)}?key=${encodeURIComponent(key)}`;
        fc.pre(written.length <= 2048);
        const parsed = parseReference(written);
        assert.equal(parsed.path, path);
        assert.equal(parsed.key, key);
      }),
    );
  });
});

describe("hasReference", () => {
  it("takes whole values only", () => {
    assert.equal(hasReference({ A: "x", B: "see vault://secret/app" }), false);
    assert.equal(hasReference({ A: "vault://secret/app" }), true);
  });
});
