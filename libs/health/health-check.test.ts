import assert from "node:assert/strict";
import { test } from "node:test";
import { HealthCheck } from "@berth/mesos/task-info";
import fc from "fast-check";
import { HealthCounter } from "./health-check.ts";
import { type Judgement, judge } from "./outcome.ts";

const ok: Judgement = { verdict: "healthy" };
const bad: Judgement = { verdict: "unhealthy", why: "w" };
const unknown: Judgement = { verdict: "unknown", why: "u" };
const START = 1_000_000;

function counter(fields: object, healthyBefore?: boolean): HealthCounter {
  const check = HealthCheck.parse({ type: "TCP", tcp: { port: 1 }, grace_period_seconds: 10, consecutive_failures: 3, ...fields });
  return new HealthCounter(check, { since: START, healthyBefore });
}

/** One letter for each result: h and u are reported, k is a reported failure that kills, a dot is silence. */
function told(counter: HealthCounter, results: Array<[secondsAfterStart: number, result: Judgement]>): string {
  return results
    .map(([seconds, result]) => {
      const { report, kill } = counter.count(result, START + seconds * 1000);
      return kill !== undefined ? "k" : report === undefined ? "." : report.healthy ? "h" : "u";
    })
    .join("");
}

const CASES: Array<{ name: string; fields?: object; before?: boolean; results: Array<[number, Judgement]>; told: string }> = [
  {
    name: "the first success is told, further ones are not",
    results: [
      [1, ok],
      [2, ok],
      [3, ok],
    ],
    told: "h..",
  },
  {
    name: "failures in the grace period are silent",
    results: [
      [1, bad],
      [9, bad],
      [10, bad],
      [11, bad],
    ],
    told: "...u",
  },
  {
    name: "the grace is over with the first success",
    results: [
      [1, bad],
      [2, ok],
      [3, bad],
      [4, bad],
      [5, bad],
    ],
    told: ".huuk",
  },
  {
    name: "a success ends the row of failures, and is told",
    results: [
      [1, ok],
      [2, bad],
      [3, bad],
      [4, ok],
      [5, bad],
      [6, ok],
    ],
    told: "huuhuh",
  },
  {
    name: "every failure is told, also above the threshold",
    fields: { grace_period_seconds: 0 },
    results: [
      [1, bad],
      [2, bad],
      [3, bad],
      [4, bad],
    ],
    told: "uukk",
  },
  {
    name: "without grace the first failure counts",
    fields: { grace_period_seconds: 0, consecutive_failures: 1 },
    results: [[1, bad]],
    told: "k",
  },
  {
    name: "a threshold of zero is met by the first failure",
    fields: { grace_period_seconds: 0, consecutive_failures: 0 },
    results: [[1, bad]],
    told: "k",
  },
  {
    name: "a check that could not be made counts neither way",
    results: [
      [11, bad],
      [12, unknown],
      [13, bad],
      [14, unknown],
      [15, bad],
    ],
    told: "u.u.k",
  },
  {
    name: "after a restart a healthy task has no grace, and is not told again",
    before: true,
    results: [
      [1, ok],
      [2, bad],
      [3, ok],
    ],
    told: ".uh",
  },
  {
    name: "after a restart an unhealthy task has no grace",
    before: false,
    results: [
      [1, bad],
      [2, ok],
    ],
    told: "uh",
  },
];

for (const { name, fields, before, results, told: expected } of CASES) {
  test(name, () => {
    assert.equal(told(counter(fields ?? {}, before), results), expected);
  });
}

test("whatever the results: killed exactly at so many failures in a row outside grace, told on every change", () => {
  const result = fc.constantFrom(ok, bad, unknown);
  fc.assert(
    fc.property(
      fc.array(result, { maxLength: 40 }),
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 0, max: 8 }),
      (results, threshold, grace) => {
        const text = told(
          counter({ consecutive_failures: threshold, grace_period_seconds: grace }),
          results.map((entry, index) => [index, entry]),
        );

        // The same rules over the whole history at once.
        let row = 0;
        let succeeded = false;
        const expected = results.map((entry, second) => {
          if (entry === unknown) return ".";
          if (entry === ok) {
            const letter = !succeeded || row > 0 ? "h" : ".";
            [row, succeeded] = [0, true];
            return letter;
          }
          if (!succeeded && second <= grace) return ".";
          row += 1;
          return row >= threshold ? "k" : "u";
        });
        assert.equal(text, expected.join(""));
      },
    ),
  );
});

test("statuses, where they are given, are the only good ones", () => {
  const http = (status: number) => ({ kind: "http", status, url: "http://127.0.0.1/" }) as const;

  assert.deepEqual(
    [200, 204, 302, 399].map((status) => judge(http(status)).verdict),
    ["healthy", "healthy", "healthy", "healthy"],
  );
  assert.deepEqual(
    [100, 199, 400, 503].map((status) => judge(http(status)).verdict),
    ["unhealthy", "unhealthy", "unhealthy", "unhealthy"],
  );
  assert.deepEqual(
    [200, 404, 503].map((status) => judge(http(status), [404]).verdict),
    ["unhealthy", "healthy", "unhealthy"],
  );
});

test("a failed command is told with its exit code and its last line only", () => {
  const judgement = judge({ kind: "command", exitCode: 3, output: `first\n${"x".repeat(300)}\n\n` });

  assert.equal(judgement.verdict === "unhealthy" && judgement.why, `the command ended with exit code 3: ${"x".repeat(200)}…`);
});
