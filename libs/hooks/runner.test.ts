import assert from "node:assert/strict";
import { test } from "node:test";
import { TaskFailure } from "@berth/mesos";
import fc from "fast-check";
import { builtInHooks } from "./built-in.ts";
import { BUILT_IN_NAMES, HooksConfig } from "./config.ts";
import type { Hook, Stage } from "./lifecycle.ts";
import { HookRunner } from "./runner.ts";
import { hookTask, silent, TestSupervisor } from "./test-kit.ts";

function hook(name: string, stages: Hook["stages"], more: Partial<Hook> = {}): Hook {
  return { name, priority: 100, timeoutMs: 200, failsTask: true, stages, describe: () => undefined, ...more };
}

test("hooks run by priority, then by name, whatever the order in which they were given", () => {
  const names = fc.uniqueArray(fc.string({ minLength: 1 }), { maxLength: 8 });
  fc.assert(
    fc.property(names, fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 8, maxLength: 8 }), (given, priorities) => {
      const hooks = given.map((name, index) => hook(name, {}, { priority: priorities[index] ?? 0 }));
      const order = new HookRunner(hooks, silent).hooks.map(({ name }) => name);
      assert.deepEqual(
        new HookRunner([...hooks].reverse(), silent).hooks.map(({ name }) => name),
        order,
      );
    }),
  );
});

test("built-in hooks: in their documented order, deregistering from traffic before the directory", () => {
  const config = HooksConfig.parse({ hooks: [...BUILT_IN_NAMES] });
  const runner = new HookRunner(builtInHooks(config, { environment: {} }), silent);

  assert.deepEqual(
    runner.hooks.map(({ name, priority }) => [name, priority]),
    [
      ["network", 0],
      ["netns", 100],
      ["acl", 200],
      ["dnat", 300],
      ["vaas", 500],
      ["consul", 600],
    ],
  );
  assert.deepEqual(
    runner.of("beforeStop").map(({ name }) => name),
    ["vaas", "consul"],
  );
  assert.deepEqual(
    builtInHooks(HooksConfig.parse({}), { environment: {} }).map(({ name }) => name),
    ["acl", "vaas", "consul"],
  );
});

test("no built-in hook does or says anything for a task that asks for nothing", async () => {
  const config = HooksConfig.parse({ hooks: ["acl", "dnat", "vaas", "consul"] });
  const hooks = builtInHooks(config, { environment: {}, hostNetwork: "/nonexistent" });
  const supervisor = new TestSupervisor(...hooks);
  const task = hookTask({ container: { type: "DOCKER", docker: { image: "x", network: "HOST" } } });

  for (const stage of ["beforeCreate", "beforeStart", "afterStart", "afterHealthy", "beforeStop", "afterStop"] as const)
    await supervisor.run(stage, task);

  assert.deepEqual(supervisor.warnings, []);
  assert.deepEqual(
    hooks.map((one) => one.describe(task)),
    [undefined, undefined, undefined, undefined],
  );
});

test("a start stage ends at the first failure of a hook that fails the task; a stop stage never does", async () => {
  const ran: string[] = [];
  const noting = (name: string, fails: boolean) => async () => {
    ran.push(name);
    if (fails) throw new Error("broken");
    return undefined;
  };
  const stages = (name: string, fails: boolean) => ({ beforeStart: noting(name, fails), afterStop: noting(name, fails) });
  const supervisor = new TestSupervisor(
    hook("a", stages("a", true), { failsTask: false }),
    hook("b", stages("b", true)),
    hook("c", stages("c", false)),
  );

  await assert.rejects(
    supervisor.run("beforeStart", hookTask()),
    (error: Error) => TaskFailure.is(error) && /hook b failed in beforeStart: broken/.test(error.message),
  );
  assert.deepEqual(ran, ["a", "b"]);
  await supervisor.run("afterStop", hookTask());
  assert.deepEqual(ran, ["a", "b", "a", "b", "c"]);
});

for (const stage of ["afterHealthy", "beforeStop", "afterStop"] satisfies Stage[]) {
  test(`a hook that hangs and heeds nothing does not hold ${stage} up`, async () => {
    const hangs = hook("hangs", { [stage]: () => new Promise<undefined>(() => {}) }, { failsTask: false });
    const ran: string[] = [];
    const next = hook("next", { [stage]: async () => void ran.push("next") }, { priority: 200 });

    await new TestSupervisor(hangs, next).run(stage, hookTask());

    assert.deepEqual(ran, ["next"]);
  });
}

test("a kill ends a start stage at once; in a stop stage the rest still have their turn, with an aborted signal", async () => {
  const kill = AbortSignal.abort(new Error("killed"));
  const seen: boolean[] = [];
  const look = hook("look", {
    afterHealthy: async () => undefined,
    beforeStop: async (_task, { signal }) => void seen.push(signal.aborted),
  });

  await assert.rejects(new TestSupervisor(look).run("afterHealthy", hookTask(), kill), { message: "killed" });
  await new TestSupervisor(look).run("beforeStop", hookTask(), kill);
  assert.deepEqual(seen, [true]);
});

test("a later hook sees what an earlier one has changed, and its own state only", async () => {
  const first = hook("first", { beforeCreate: async () => ({ environment: { A: "1", B: "1" }, state: "mine" }) });
  const second = hook("second", {
    beforeCreate: async (task, { state }) => ({ environment: { B: `${task.environment.A}2` }, state: String(state) }),
  });

  const supervisor = new TestSupervisor(first, second);
  const changed = await supervisor.run("beforeCreate", hookTask());

  assert.deepEqual(changed.environment, { A: "1", B: "12" });
  assert.deepEqual(supervisor.states, { first: "mine", second: "undefined" });
});
