import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseAgentJson } from "./agent-json.ts";

test("JSON without huge integers is what JSON.parse makes of it", () => {
  fc.assert(
    fc.property(
      fc.json().filter((json) => !/\d{16}/.test(json)),
      (text) => {
        assert.deepEqual(parseAgentJson(text), JSON.parse(text));
      },
    ),
  );
});

test("an integer beyond 2^53 keeps all its digits, as text, wherever it stands", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }), fc.string(), (integer, text) => {
      const exact = Number.isSafeInteger(Number(integer)) && String(Number(integer)) === String(integer);
      const wanted = exact ? Number(integer) : String(integer);
      const json = `{"a":{"nanoseconds":${integer}},"b":[${integer}, ${integer}],"c":${JSON.stringify(text)}}`;
      assert.deepEqual(parseAgentJson(json), { a: { nanoseconds: wanted }, b: [wanted, wanted], c: text });
    }),
  );
});

test("digits in texts, fractions and exponents are none", () => {
  const text = `{"n":9223372036854775807,"t":"9223372036854775807","q":"\\"9223372036854775807","f":0.12345678901234567890,"e":12345678901234567e3,"g":12345678901234567.5}`;
  assert.deepEqual(parseAgentJson(text), {
    n: "9223372036854775807",
    t: "9223372036854775807",
    q: '"9223372036854775807',
    f: JSON.parse("0.12345678901234567890"),
    e: 12345678901234567e3,
    g: JSON.parse("12345678901234567.5"),
  });
});
