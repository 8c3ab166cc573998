import assert from "node:assert/strict";
import { test } from "node:test";
import type { WorkerMessage } from "@berth/protocol";
import { VirtualHost } from "../tests/virtual-host.ts";
import { KeptOutput } from "./kept-output.ts";

type Output = Extract<WorkerMessage, { type: "output" }>;

/** Takes part in a conversation as the supervisor's end. */
class Ear {
  readonly heard: Output[] = [];
  readonly send = (message: Output): void => void this.heard.push(message);

  offsets(taskId = "t"): number[] {
    return this.heard.filter((message) => message.taskId === taskId).map(({ offset }) => offset as number);
  }
}

function newKept(): { kept: KeptOutput; machine: VirtualHost; told: string[] } {
  const machine = new VirtualHost();
  const told: string[] = [];
  return { kept: new KeptOutput(machine.host, (held) => told.push(held ? "hold" : "go on")), machine, told };
}

function add(kept: KeptOutput, text: string, stream: "stdout" | "stderr" = "stdout", taskId = "t"): void {
  kept.add(taskId, stream, Buffer.from(text));
}

test("pieces are numbered by the bytes of their stream and come again until they are taken", () => {
  const { kept } = newKept();
  const written = kept.begin("t");
  const [first, second, third] = [new Ear(), new Ear(), new Ear()];
  kept.connected(first.send, true);
  add(kept, "one\n");
  add(kept, "err\n", "stderr");
  add(kept, "two\n");
  add(kept, "other\n", "stdout", "u");
  assert.deepEqual(first.offsets(), [0, 0, 4]);
  assert.deepEqual(written, { stdout: 8, stderr: 4 });
  kept.taken("t", { stdout: 4, stderr: 0 });
  kept.disconnected();
  add(kept, "three\n");
  assert.equal(first.heard.length, 4);

  assert.equal(kept.connected(second.send, true), 0);
  assert.deepEqual(
    second.heard.map(({ taskId, stream, offset }) => [taskId, stream, offset]),
    [
      ["t", "stderr", 0],
      ["t", "stdout", 4],
      ["u", "stdout", 0],
      ["t", "stdout", 8],
    ],
  );
  // A piece of which only a part was taken is kept whole.
  kept.taken("t", { stdout: 6, stderr: 4 });
  kept.forget("u");
  kept.disconnected();
  kept.connected(third.send, true);
  assert.deepEqual(third.offsets(), [4, 8]);
});

test("to a supervisor that does not say `taken`, each piece is sent once", () => {
  const { kept } = newKept();
  const [first, second] = [new Ear(), new Ear()];
  add(kept, "early\n");
  kept.connected(first.send, false);
  add(kept, "late\n");
  assert.deepEqual(first.offsets(), [0, 6]);
  kept.disconnected();
  add(kept, "away\n");

  kept.connected(second.send, true);
  assert.deepEqual(second.offsets(), [11]);
});

test("one that does not take gets no more than a window ahead, and all of it once the child is over", () => {
  const { kept } = newKept();
  const ear = new Ear();
  kept.connected(ear.send, true);
  const piece = "x".repeat(60_000);
  for (let count = 0; count < 40; count++) add(kept, piece);
  const ahead = ear.heard.length;
  assert.ok(ahead >= 4 && ahead < 8, `${ahead} pieces ahead`);

  kept.taken("t", { stdout: 3 * piece.length, stderr: 0 });
  assert.equal(ear.heard.length, ahead + 3);
  kept.flush();
  assert.deepEqual(
    ear.offsets(),
    Array.from({ length: 40 }, (_, index) => index * piece.length),
  );
});

test("while nobody is there the newest 4 MiB are kept, and what was given up is told", () => {
  const { kept } = newKept();
  const ear = new Ear();
  const piece = "x".repeat(30_000);
  for (let count = 0; count < 1000; count++) add(kept, piece);

  const dropped = kept.connected(ear.send, true);
  kept.flush();
  const [first = 0] = ear.offsets();
  assert.equal(dropped, first);
  assert.equal(ear.offsets().at(-1), 999 * piece.length);
  const size = ear.heard.reduce((sum, { data }) => sum + Buffer.from(data, "base64").length, 0);
  assert.ok(size > 3.5 * 1024 * 1024 && size <= 4 * 1024 * 1024, `${size} bytes were kept`);
  kept.disconnected();
  assert.equal(kept.connected(ear.send, true), 0);
});

test("what a stuck supervisor was sent is not given up before what it was not", () => {
  const { kept } = newKept();
  const ear = new Ear();
  kept.connected(ear.send, true);
  const piece = "x".repeat(30_000);
  for (let count = 0; count < 1000; count++) add(kept, piece);
  const stuck = ear.heard.length;
  assert.ok(stuck < 12, `${stuck} pieces in the socket's queue`);

  kept.taken("t", { stdout: stuck * piece.length, stderr: 0 });
  assert.ok((ear.offsets()[stuck] as number) > stuck * piece.length, "a gap behind them");
});

test("what fills up holds the children until there is room again, but not for long", () => {
  const { kept, machine, told } = newKept();
  const ear = new Ear();
  const piece = "x".repeat(32_000);
  for (let count = 0; count < 110; count++) add(kept, piece);
  assert.deepEqual(told, ["hold"]);
  machine.advance(4000);
  kept.connected(ear.send, true);
  for (let taken = 1; taken <= 110; taken++) kept.taken("t", { stdout: taken * piece.length, stderr: 0 });
  assert.deepEqual(told, ["hold", "go on"]);
  assert.equal(ear.heard.length, 110);

  kept.disconnected();
  for (let count = 0; count < 110; count++) add(kept, piece);
  machine.advance(4900);
  assert.deepEqual(told, ["hold", "go on", "hold"]);
  machine.advance(200);
  for (let count = 0; count < 110; count++) add(kept, piece);
  assert.deepEqual(told, ["hold", "go on", "hold", "go on"]);
  assert.ok(kept.connected(ear.send, true) > 0);
});

test("a program that writes byte by byte fills it with bytes, not with pieces", () => {
  const { kept, told } = newKept();
  const [first, second] = [new Ear(), new Ear()];
  kept.connected(first.send, true);
  for (let count = 0; count < 20_000; count++) add(kept, "x");
  kept.disconnected();
  for (let count = 0; count < 20_000; count++) add(kept, "y");
  assert.equal(first.heard.length, 20_000);
  assert.deepEqual(told, []);

  kept.taken("t", { stdout: 10_000, stderr: 0 });
  assert.equal(kept.connected(second.send, true), 0);
  const came = Buffer.concat(second.heard.map(({ data }) => Buffer.from(data, "base64"))).toString();
  const [from = 0] = second.offsets();
  assert.ok(from > 5000 && from <= 10_000 && second.heard.length < 20);
  assert.equal(came, "x".repeat(20_000 - from) + "y".repeat(20_000));
});
