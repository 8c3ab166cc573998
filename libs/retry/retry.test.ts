import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { backoffDelay, type FailedAttempt, pause, retry } from "./index.ts";

const POLICY = { attempts: 4, firstDelayMs: 1, maxDelayMs: 4 };

function failing(times: number): { calls: number[]; call: (attempt: number) => Promise<string> } {
  const calls: number[] = [];
  const call = async (attempt: number): Promise<string> => {
    calls.push(attempt);
    if (calls.length <= times) throw new Error(`failure ${calls.length}`);
    return "done";
  };
  return { calls, call };
}

describe("retry", () => {
  test("returns the first success and numbers the attempts", async () => {
    const { calls, call } = failing(2);
    assert.equal(await retry(POLICY, call), "done");
    assert.deepEqual(calls, [1, 2, 3]);
  });

  test("throws the last error when the attempts are used up, without a wait behind it", async () => {
    const { calls, call } = failing(9);
    const told: FailedAttempt[] = [];
    await assert.rejects(retry(POLICY, call, { onFailure: (failed) => told.push(failed), random: () => 1 }), /failure 4/);
    assert.equal(calls.length, 4);
    assert.deepEqual(
      told.map(({ attempt, delayMs }) => [attempt, delayMs]),
      [
        [1, 1],
        [2, 2],
        [3, 4],
      ],
    );
  });

  test("does not repeat an error that would come again", async () => {
    const { calls, call } = failing(9);
    await assert.rejects(retry(POLICY, call, { recoverable: () => false }), /failure 1/);
    assert.equal(calls.length, 1);
  });

  test("ends with the signal's reason: before the first call, during one, in the middle of a wait", async () => {
    const reason = new Error("given up");
    const { calls, call } = failing(9);
    await assert.rejects(retry(POLICY, call, { signal: AbortSignal.abort(reason) }), reason);
    assert.equal(calls.length, 0);

    const during = new AbortController();
    const aborting = async (): Promise<never> => {
      during.abort(reason);
      throw new Error("of the call");
    };
    await assert.rejects(retry(POLICY, aborting, { signal: during.signal }), reason);

    const waiting = new AbortController();
    const slow = { attempts: 2, firstDelayMs: 3_600_000, maxDelayMs: 3_600_000 };
    await assert.rejects(retry(slow, call, { signal: waiting.signal, onFailure: () => setImmediate(() => waiting.abort(reason)) }), reason);
  });
});

test("waits double from the first up to the longest, jittered to between half and all of it", () => {
  fc.assert(
    fc.property(
      fc.nat(10_000),
      fc.nat(100_000),
      fc.integer({ min: 1, max: 2000 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (first, max, attempt, random) => {
        const delay = backoffDelay({ attempts: 1, firstDelayMs: first, maxDelayMs: max }, attempt, () => random);
        const ceiling = Math.min(max, first * 2 ** Math.min(attempt - 1, 30));
        assert.ok(delay >= ceiling / 2 && delay <= ceiling);
      },
    ),
  );
});

test("a pause ends at once with the signal's reason", async () => {
  const reason = new Error("enough");
  await assert.rejects(pause(3_600_000, AbortSignal.abort(reason)), reason);
  await pause(1);
});
