/** The minutes that a worker waits, on a clock that a test moves. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { runWorker } from "../core/worker.ts";
import { VirtualHost } from "./virtual-host.ts";

const SECOND = 1000;
const MINUTE = 60_000;

function start(environment: Record<string, string> = {}, tasks: readonly string[] = []): VirtualHost {
  const world = new VirtualHost(environment);
  runWorker(world.host);
  world.advance(10);
  for (const taskId of tasks) world.agent.launch(taskId);
  world.advance(10);
  return world;
}

function finish(world: VirtualHost, taskId: string): void {
  world.supervisor.say({ type: "update", taskId, update: { state: "TASK_FINISHED" } });
  world.advance(10);
}

/** The pauses between attempts, milliseconds. */
function gaps(times: readonly number[]): number[] {
  return times.slice(1).map((time, index) => time - (times[index] as number));
}

describe("an acknowledgement that never comes", () => {
  test("is waited for 60 s, then the worker leaves with 1 and a warning", () => {
    const world = start({}, ["t"]);
    world.agent.acknowledges = false;
    finish(world, "t");

    world.advance(59 * SECOND);
    assert.equal(world.exitCode, undefined);
    world.advance(2 * SECOND);

    assert.equal(world.exitCode, 1);
    assert.match(world.log, /WARNING: the agent did not acknowledge TASK_FINISHED of task t within 60 s/);
  });

  for (const name of ["EXECUTOR", "ALLEGRO_EXECUTOR"]) {
    test(`is waited for as long as ${name}_STATE_UPDATE_WAIT_TIMEOUT says`, () => {
      const world = start({ [`${name}_STATE_UPDATE_WAIT_TIMEOUT`]: "2m" }, ["t"]);
      world.agent.acknowledges = false;
      finish(world, "t");

      world.advance(119 * SECOND);
      assert.equal(world.exitCode, undefined);
      world.advance(2 * SECOND);

      assert.equal(world.exitCode, 1);
    });
  }

  test("is waited for all the same where EXECUTOR_STATE_UPDATE_WAIT_TIMEOUT gives it no time: the end of a task is told", () => {
    const world = start({ EXECUTOR_STATE_UPDATE_WAIT_TIMEOUT: "0s" }, ["t"]);
    finish(world, "t");

    world.advance(SECOND);

    assert.deepEqual(
      world.agent.calls.flatMap(({ status }) => status?.state ?? []),
      ["TASK_FINISHED"],
    );
    assert.equal(world.exitCode, 0);
  });

  test("is waited for 5 s once the executor is shut down, whatever its grace period, and is no failure then", () => {
    const world = start({ MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD: "1mins" }, ["t"]);
    world.agent.acknowledges = false;
    world.agent.send({ type: "SHUTDOWN" });
    world.advance(10);
    finish(world, "t");

    world.advance(4 * SECOND);
    assert.equal(world.exitCode, undefined);
    world.advance(2 * SECOND);

    assert.equal(world.exitCode, 0);
  });

  test("does not count while the agent is away: that is the recovery timeout's affair", () => {
    const world = start({}, ["t"]);
    world.agent.acknowledges = false;
    finish(world, "t");
    world.agent.fall("ECONNREFUSED");

    world.advance(14 * MINUTE);
    world.agent.up();
    world.advance(30 * SECOND);
    assert.equal(world.exitCode, undefined);
    world.advance(31 * SECOND);

    assert.equal(world.exitCode, 1);
  });

  test("of one task does not keep the worker when the others are over, nor end it before", () => {
    const world = start({}, ["lost", "later"]);
    world.agent.acknowledges = false;
    finish(world, "lost");
    world.agent.acknowledges = true;

    world.advance(5 * MINUTE);
    assert.equal(world.exitCode, undefined);
    finish(world, "later");
    world.advance(SECOND);

    assert.equal(world.exitCode, 1);
  });
});

describe("an agent that is away", () => {
  test("is tried at once, then at random intervals of at most half a second, until the recovery timeout", () => {
    const world = start({ MESOS_SUBSCRIPTION_BACKOFF_MAX: "15secs" }, ["t"]);
    world.advance(MINUTE);
    world.agent.attempts.length = 0;
    const begin = world.now;
    world.agent.fall("ECONNREFUSED");

    world.advance(14 * MINUTE);
    const pauses = gaps(world.agent.attempts);
    assert.equal((world.agent.attempts[0] as number) - begin, 0);
    assert.ok(
      pauses.every((pause) => pause >= 10 && pause <= 500),
      `${Math.min(...pauses)}..${Math.max(...pauses)}`,
    );
    assert.ok(Math.max(...pauses) - Math.min(...pauses) > 400);
    assert.equal(
      world.supervisor.heard.some((message) => message.type === "kill"),
      false,
    );
    world.advance(61 * SECOND);

    assert.equal(
      world.supervisor.heard.some((message) => message.type === "kill"),
      true,
    );
    world.advance(MINUTE);
    assert.equal(world.exitCode, 1);
  });

  test("is tried at a quarter of its own maximum where that is less", () => {
    const world = start({ MESOS_SUBSCRIPTION_BACKOFF_MAX: "200ms" }, ["t"]);
    world.advance(MINUTE);
    world.agent.attempts.length = 0;

    world.agent.fall("ECONNREFUSED");
    world.advance(MINUTE);

    assert.ok(gaps(world.agent.attempts).every((pause) => pause <= 50));
  });

  test("counts its recovery timeout anew after each success", () => {
    const world = start({}, ["t"]);
    for (let time = 0; time < 5; time++) {
      world.agent.fall("ECONNREFUSED");
      world.advance(10 * MINUTE);
      world.agent.up();
      world.advance(SECOND);
    }

    finish(world, "t");
    world.advance(SECOND);

    assert.equal(world.exitCode, 0);
  });

  test("from the start is given up after a minute; a reset is explained", () => {
    const world = new VirtualHost();
    world.agent.fall("ECONNRESET");
    runWorker(world.host);

    world.advance(59 * SECOND);
    assert.equal(world.exitCode, undefined);
    world.advance(2 * SECOND);

    assert.equal(world.exitCode, 1);
    assert.match(
      world.log,
      /192\.0\.2\.1:5051 did not take us within 60 s: ECONNRESET; if the agent speaks TLS, set BERTH_AGENT_SCHEME=https/,
    );
  });
});

describe("a supervisor that is away", () => {
  test("is tried at growing random intervals of at most two seconds, for hours", () => {
    const world = start({}, ["t"]);
    world.supervisor.attempts.length = 0;
    world.supervisor.fall();

    world.advance(120 * MINUTE);

    const pauses = gaps(world.supervisor.attempts);
    assert.ok(Math.max(...pauses) <= 2000 && Math.max(...pauses) > 1500);
    assert.ok((pauses[0] as number) <= 100);
    assert.equal(world.exitCode, undefined);
    world.supervisor.down = false;
    world.advance(2 * SECOND);
    finish(world, "t");
    world.advance(SECOND);
    assert.equal(world.exitCode, 0);
  });

  test("from the start costs a task 60 s, then it fails", () => {
    const world = new VirtualHost();
    world.supervisor.down = true;
    runWorker(world.host);
    world.advance(10);
    world.agent.launch("t");

    world.advance(59 * SECOND);
    assert.equal(
      world.agent.calls.some(({ type }) => type === "UPDATE"),
      false,
    );
    world.advance(2 * SECOND);

    const status = world.agent.calls.find(({ type }) => type === "UPDATE")?.status;
    assert.equal(status?.state, "TASK_FAILED");
    assert.match(status?.message ?? "", /no supervisor took the task on within 60 s: \/run\/berth\/berthd\.sock: ECONNREFUSED/);
    assert.equal(world.exitCode, 0);
  });

  test("when all is acknowledged is waited for only ten seconds", () => {
    const world = start({}, ["t"]);
    world.supervisor.say({ type: "update", taskId: "t", update: { state: "TASK_FINISHED" } });
    world.supervisor.fall();

    world.advance(9 * SECOND);
    assert.equal(world.exitCode, undefined);
    world.advance(2 * SECOND);

    assert.equal(world.exitCode, 0);
  });
});

test("a HEARTBEAT call goes out every half hour", () => {
  const world = start({}, ["t"]);

  world.advance(95 * MINUTE);

  const beats = world.agent.calls.filter(({ type }) => type === "HEARTBEAT").map(({ at }) => Math.round(at / MINUTE));
  assert.deepEqual(beats, [30, 60, 90]);
});

test("nothing of a task's own words, and no environment, is ever in the log", () => {
  const world = start({ PASSWORD: "hunter2" });
  world.agent.send({ type: "LAUNCH", launch: { task: { task_id: { value: "t" }, data: "hunter2", name: "hunter2" } } });
  world.agent.fall("ECONNRESET");
  world.advance(SECOND);
  world.agent.up();
  world.supervisor.fall();
  world.advance(SECOND);
  world.supervisor.down = false;
  world.advance(5 * SECOND);
  finish(world, "t");
  world.advance(SECOND);

  assert.equal(world.exitCode, 0);
  assert.equal(world.log.includes("hunter2"), false);
});
