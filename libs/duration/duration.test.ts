import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatDuration, parseGoDuration, parseMesosDuration } from "./index.ts";

const GO: Record<string, number | undefined> = {
  "0": 0,
  "+0": 0,
  "1m30s": 90_000,
  "500ms": 500,
  "-2h": -7_200_000,
  "1.5h": 5_400_000,
  ".5s": 500,
  "1us": 0.001,
  "1µs": 0.001,
  "1h1m1s1ms": 3_661_001,
  "": undefined,
  "5": undefined,
  "5 s": undefined,
  "5d": undefined,
  "1e3s": undefined,
  s: undefined,
};
const MESOS: Record<string, number | undefined> = {
  "5secs": 5_000,
  "15mins": 900_000,
  "1.5mins": 90_000,
  "1.0000001secs": 1000.0001,
  "250ms": 250,
  "2hrs": 7_200_000,
  "1days": 86_400_000,
  "1weeks": 604_800_000,
  "0ns": 0,
  "1000000ns": 1,
  "5s": undefined,
  "-5secs": undefined,
  "5 secs": undefined,
  secs: undefined,
};

for (const [text, expected] of Object.entries(GO)) {
  test(`Go's ${JSON.stringify(text)}`, () => {
    const got = parseGoDuration(text);
    if (expected === undefined) assert.equal(got, undefined);
    else assert.ok(Math.abs((got as number) - expected) < 1e-9, `${got}`);
  });
}

for (const [text, expected] of Object.entries(MESOS)) {
  test(`Mesos's ${JSON.stringify(text)}`, () => {
    const got = parseMesosDuration(text);
    if (expected === undefined) assert.equal(got, undefined);
    else assert.ok(Math.abs((got as number) - expected) < 1e-6, `${got}`);
  });
}

test("what is formatted can be read again, to the millisecond", () => {
  fc.assert(
    fc.property(fc.integer({ min: -1e12, max: 1e12 }), (milliseconds) => {
      const read = parseGoDuration(formatDuration(milliseconds));
      assert.ok(Math.abs((read as number) - milliseconds) < 0.01, `${formatDuration(milliseconds)}`);
    }),
  );
});

test("parts of a Go duration add up", () => {
  const part = fc.tuple(
    fc.integer({ min: 0, max: 10_000 }),
    fc.constantFrom(["h", 3_600_000], ["m", 60_000], ["s", 1_000], ["ms", 1]) as fc.Arbitrary<[string, number]>,
  );
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 6 }), (parts) => {
      const text = parts.map(([count, [unit]]) => `${count}${unit}`).join("");
      assert.equal(
        parseGoDuration(text),
        parts.reduce((sum, [count, [, size]]) => sum + count * size, 0),
      );
    }),
  );
});

test("any other text is undefined, never a wrong number or an error", () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      for (const parse of [parseGoDuration, parseMesosDuration]) {
        const got = parse(text);
        assert.ok(got === undefined || Number.isFinite(got));
      }
    }),
  );
});
