import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Gate, KeyedGates, type Leave } from "./engine-gate.ts";

const NEVER = new AbortController().signal;

test("never more inside than the limit, nobody forgotten, whoever gives up or leaves twice", async () => {
  const visit = fc.record({ givesUp: fc.boolean(), leavesTwice: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 4 }), fc.array(visit, { maxLength: 20 }), async (limit, visits) => {
      const gate = new Gate(limit);
      let inside = 0;
      const outcomes = visits.map(async ({ givesUp, leavesTwice }) => {
        const controller = new AbortController();
        const entered = gate.enter(controller.signal);
        if (givesUp) controller.abort(new Error("gave up"));
        const leave = await entered.catch(() => undefined);
        if (leave === undefined) return assert.ok(givesUp);
        inside += 1;
        assert.ok(inside <= limit);
        await Promise.resolve();
        inside -= 1;
        leave();
        if (leavesTwice) leave();
      });

      await Promise.all(outcomes);

      assert.equal(gate.inside, 0);
      assert.equal(gate.waiting, 0);
    }),
  );
});

test("the first to come is the first to enter", async () => {
  const gate = new Gate(1);
  const order: number[] = [];
  const leave = await gate.enter(NEVER);
  const others = [1, 2, 3].map(async (number) => {
    const next: Leave = await gate.enter(NEVER);
    order.push(number);
    next();
  });

  leave();
  await Promise.all(others);

  assert.deepEqual(order, [1, 2, 3]);
});

test("one key's queue is not another's", async () => {
  const gates = new KeyedGates(1);
  const leave = await gates.enter("bad", NEVER);
  const waits = gates.enter("bad", NEVER);

  const other = await gates.enter("good", NEVER);

  assert.equal(gates.waiting, 1);
  other();
  leave();
  (await waits)();
  assert.equal(gates.waiting, 0);
});
