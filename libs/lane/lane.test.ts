import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, type TestContext, test } from "node:test";
import { tempDir, waitFor } from "@berth/test-harness";
import type { ExampleMethods } from "./fixtures/example.thread.ts";
import { Lane, LaneLostError, type LaneOptions } from "./index.ts";

const warnings: Array<{ fields: object; message: string }> = [];

function open(context: TestContext, more: Partial<LaneOptions> = {}): Lane<ExampleMethods> {
  const lane = new Lane<ExampleMethods>({
    name: "example",
    entry: new URL("./fixtures/example.thread.ts", import.meta.url),
    start: {},
    log: { warn: (fields, message) => void warnings.push({ fields, message }) },
    ...more,
  });
  context.after(() => lane.close());
  return lane;
}

describe("calls", () => {
  test("made before the thread is ready wait for it; many at once each get their own answer", async (context) => {
    const lane = open(context);
    const answers = await Promise.all(Array.from({ length: 200 }, (_, index) => lane.call("add", { a: index, b: 1 })));
    assert.deepEqual(
      answers,
      Array.from({ length: 200 }, (_, index) => index + 1),
    );
    assert.notEqual(await lane.call("thread", undefined), 0);
  });

  test("that throw reject with the error's name, message and fields", async (context) => {
    const lane = open(context);
    await assert.rejects(lane.call("fail", { message: "no", statusCode: 404 }), {
      name: "ExampleError",
      message: "no",
      code: "EXAMPLE",
      statusCode: 404,
    });
  });

  test("of a method that does not exist reject", async (context) => {
    const lane = open(context) as unknown as Lane<{ missing(nothing: undefined): void }>;
    await assert.rejects(lane.call("missing", undefined), /no method missing/);
  });

  test("abort the method's own signal; a signal that was aborted before calls nothing", async (context) => {
    const lane = open(context);
    const controller = new AbortController();
    const call = lane.call("untilAborted", undefined, controller.signal);
    await lane.call("add", { a: 1, b: 1 });
    controller.abort();
    assert.equal(await call, "given up");
    await assert.rejects(lane.call("add", { a: 1, b: 1 }, controller.signal), { name: "AbortError" });
  });
});

describe("a thread that dies", () => {
  for (const how of ["crash", "exit", "fill"] as const) {
    test(`by ${how} rejects what was under way, is replaced once, and says so`, async (context) => {
      const lane = open(context, how === "fill" ? { maxHeapMb: 32 } : {});
      await lane.call("thread", undefined);
      const restarted = new Promise((resolve) => lane.once("restarted", () => resolve(true)));
      const pending = [lane.call("never", undefined), how === "exit" ? lane.call("exit", 3) : lane.call(how, undefined)];

      const ends = await Promise.allSettled(pending);

      assert.ok(ends.every((end) => end.status === "rejected" && end.reason instanceof LaneLostError));
      assert.equal(await lane.call("add", { a: 2, b: 3 }), 5);
      assert.equal(await restarted, true);
      assert.equal(lane.restarts, 1);
      assert.ok(lane.up);
    });
  }

  test("is told what its owner tells it at its restart before calls that waited meanwhile", async (context) => {
    const lane = open(context);
    const said: number[] = [];
    lane.on("said", (detail) => said.push((detail as { value: number }).value));
    lane.on("restarted", () => void lane.call("emit", { value: 1 }));
    await lane.call("exit", 3).catch(() => {});

    await lane.call("emit", { value: 2 });

    await waitFor(() => said.length === 2);
    assert.deepEqual(said, [1, 2]);
  });

  test("at every start is tried again and again, and can be closed", async (context) => {
    const before = warnings.length;
    const lane = open(context, { start: { failToStart: true } });
    await waitFor(() => lane.restarts >= 2);
    assert.ok(warnings.length > before);
    assert.equal(lane.up, false);
    const controller = new AbortController();
    const waiting = lane.call("add", { a: 1, b: 1 }, controller.signal);
    controller.abort();
    await assert.rejects(waiting, { name: "AbortError" });
    await lane.close();
  });
});

test("what the thread says unasked comes out as events, in order", async (context) => {
  const lane = open(context);
  const said: number[] = [];
  lane.on("said", (detail) => said.push((detail as { value: number }).value));
  for (let value = 0; value < 50; value++) void lane.call("emit", { value });
  await waitFor(() => said.length === 50);
  assert.deepEqual(
    said,
    Array.from({ length: 50 }, (_, value) => value),
  );
});

test("closing runs the thread's clean-up, rejects what is under way and what comes later, and may be done twice", async (context) => {
  await using folder = await tempDir("lane");
  const closedFile = `${folder.path}/closed`;
  const lane = open(context, { start: { closedFile } });
  await lane.call("add", { a: 1, b: 1 });
  const pending = assert.rejects(lane.call("never", undefined), LaneLostError);

  await lane.close();
  await lane.close();

  await pending;
  assert.ok(existsSync(closedFile));
  await assert.rejects(lane.call("add", { a: 1, b: 1 }), LaneLostError);
  assert.equal(lane.restarts, 0);
});
