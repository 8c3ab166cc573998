import assert from "node:assert/strict";
import { test } from "node:test";
import { Counter, exposition, LoopLag } from "./metrics.ts";

test("metrics: the exposition escapes labels, and tells NaN for what is no number", () => {
  const text = exposition([
    { name: "a_total", help: "Things.", type: "counter", samples: [{ labels: { why: 'a "b"\\\nc' }, value: 2 }] },
    { name: "b", help: "Other.", type: "gauge", samples: [{ value: Number.NaN }] },
  ]);

  assert.equal(
    text,
    '# HELP a_total Things.\n# TYPE a_total counter\na_total{why="a \\"b\\"\\\\\\nc"} 2\n# HELP b Other.\n# TYPE b gauge\nb NaN\n',
  );
});

test("metrics: a counter counts by its labels", () => {
  const counter = new Counter();
  counter.add({ to: "A" });
  counter.add({ to: "B" });
  counter.add({ to: "A" });

  assert.deepEqual(counter.samples, [
    { labels: { to: "A" }, value: 2 },
    { labels: { to: "B" }, value: 1 },
  ]);
});

test("metrics: a loop that was held up shows its lag once", async () => {
  const lag = new LoopLag();
  await new Promise((resolve) => setTimeout(resolve, 50));
  const end = performance.now() + 120;
  while (performance.now() < end);
  await new Promise((resolve) => setTimeout(resolve, 50));

  const held = lag.take();
  assert.ok(held > 0.05, String(held));
  assert.ok(lag.take() < held);
  lag.stop();
});
