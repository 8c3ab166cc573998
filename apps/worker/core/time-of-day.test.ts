import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { timeOfDay } from "./time-of-day.ts";

test("a time is written as Date writes it, years 1 to 9999", () => {
  const first = Date.parse("0001-01-01T00:00:00Z");
  const last = Date.parse("9999-12-31T23:59:59.999Z");
  fc.assert(
    fc.property(fc.integer({ min: first, max: last }), (time) => {
      assert.equal(timeOfDay(time).padStart(24, "0"), new Date(time).toISOString());
    }),
    { numRuns: 2000 },
  );
});

test("fractions of a millisecond are cut", () => {
  assert.equal(timeOfDay(1_732_171_234_123.9), "2024-11-21T06:40:34.123Z");
});

test("leap days, century years, the turn of a year", () => {
  for (const text of [
    "2000-02-29T00:00:00.000Z",
    "1900-03-01T12:00:00.000Z",
    "2024-02-29T23:59:59.999Z",
    "2026-01-01T00:00:00.000Z",
    "1970-01-01T00:00:00.000Z",
  ])
    assert.equal(timeOfDay(Date.parse(text)), text);
});
