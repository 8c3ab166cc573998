import assert from "node:assert/strict";
import { test } from "node:test";
import { mergeStop, type StopRequest, shiftStop, stopRequestOf } from "./stop-requests.ts";

const NOW = 1_000_000;
const kill: StopRequest = { cause: "framework-kill", message: "killed", gracePeriodMs: 5000, requestedAt: NOW };

test("stop: a kill gives drains their time; a repetition of it takes none of that away", () => {
  const first = mergeStop(undefined, kill, { now: NOW, drainMs: 60_000 });

  assert.equal(first?.signalBy, NOW + 60_000);
  assert.equal(mergeStop(first, kill, { now: NOW + 1000, drainMs: 60_000 }), undefined);
  assert.equal(mergeStop(first, { ...kill, requestedAt: NOW + 10_000 }, { now: NOW + 10_000, drainMs: 60_000 }), undefined);
});

test("stop: a shorter grace period ends the drain too; the first cause stays", () => {
  const first = mergeStop(undefined, kill, { now: NOW, drainMs: 60_000 });
  const later: StopRequest = { cause: "operator", message: "now", gracePeriodMs: 0, requestedAt: NOW + 2000 };

  const second = mergeStop(first, later, { now: NOW + 2000, drainMs: 60_000 });

  assert.deepEqual([second?.cause, second?.gracePeriodMs, second?.signalBy], ["framework-kill", 0, NOW + 2000]);
});

test("stop: a shutdown leaves two seconds of its grace period for the last update", () => {
  const request = stopRequestOf(
    { kind: "shutdown", gracePeriodMs: 5000, receivedAt: NOW, cause: "agent" },
    { defaultGraceMs: 10_000, now: NOW },
  );

  assert.deepEqual([request.gracePeriodMs, request.signalBy], [2500, NOW + 500]);
});

test("stop: a request from the future (a clock that was set back) does not wait for it", () => {
  const future = { kind: "kill", receivedAt: NOW + 3_600_000, cause: "framework" } as const;
  const request = stopRequestOf(future, { defaultGraceMs: 1000, now: NOW });

  assert.equal(mergeStop(undefined, request, { now: NOW, drainMs: 500 })?.signalBy, NOW + 500);
});

test("stop: after the clock was set every deadline moves, who asked and when does not", () => {
  const stop = { ...kill, signalBy: NOW + 10, signalledAt: NOW + 20, killedAt: NOW + 30 };

  assert.deepEqual(shiftStop(stop, -5), { ...stop, signalBy: NOW + 5, signalledAt: NOW + 15, killedAt: NOW + 25 });
});
