import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { RecordDecoder } from "@berth/recordio";
import fc from "fast-check";
import { encodeFrame, parseSupervisorMessage, type SupervisorMessage, type WorkerMessage } from "./index.ts";
import { ProtocolError, parseWorkerMessage } from "./supervisor.ts";

interface Line {
  from: "worker" | "supervisor";
  message: WorkerMessage | SupervisorMessage;
}

/** A conversation of version 1, kept as it was: a later build must still understand each line. */
const TRANSCRIPT: Line[] = readFileSync(new URL("./fixtures/version-1.jsonl", import.meta.url), "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => JSON.parse(line) as Line);

const bytesOf = (text: string): Uint8Array => Buffer.from(text);
const parse = (from: Line["from"], frame: Uint8Array): unknown =>
  from === "worker" ? parseWorkerMessage(frame) : parseSupervisorMessage(Buffer.from(frame).toString());

describe("the transcript of version 1", () => {
  for (const { from, message } of TRANSCRIPT) {
    test(`${from}: ${message.type} is understood whole`, () => {
      assert.deepEqual(parse(from, bytesOf(JSON.stringify(message))), message);
    });
  }

  test("holds every message of either side", () => {
    const types = (from: Line["from"]): string[] =>
      [...new Set(TRANSCRIPT.filter((line) => line.from === from).map((line) => line.message.type))].sort();

    const worker = [
      "acknowledged",
      "exited",
      "hello",
      "held",
      "kill",
      "launch",
      "message",
      "output",
      "shutdown",
      "spawnFailed",
      "spawned",
      "written",
    ];
    const supervisor = [
      "checkpoint",
      "exit",
      "forget",
      "message",
      "output",
      "refuse",
      "signal",
      "spawn",
      "taken",
      "title",
      "update",
      "welcome",
    ];
    assert.deepEqual(types("worker"), worker.sort());
    assert.deepEqual(types("supervisor"), supervisor);
  });
});

describe("frames", () => {
  const whole = Buffer.concat(TRANSCRIPT.map(({ message }) => encodeFrame(message, bytesOf)));

  function read(pieces: Iterable<Uint8Array>): unknown[] {
    const messages: unknown[] = [];
    const decoder = new RecordDecoder((record) => messages.push(JSON.parse(Buffer.from(record).toString())));
    for (const piece of pieces) decoder.push(piece);
    return messages;
  }

  test("cut at every single byte are the same messages", () => {
    const expected = TRANSCRIPT.map(({ message }) => message);

    for (let at = 0; at <= whole.length; at++) assert.equal(read([whole.subarray(0, at), whole.subarray(at)]).length, expected.length);
    assert.deepEqual(read(Array.from(whole, (byte) => Uint8Array.of(byte))), expected);
  });

  test("cut anywhere, any number of times, are the same messages", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(whole.length), { maxLength: 40 }), (places) => {
        const cuts = [0, ...places.sort((a, b) => a - b), whole.length];
        const pieces = cuts.slice(1).map((end, index) => whole.subarray(cuts[index], end));
        assert.deepEqual(
          read(pieces),
          TRANSCRIPT.map(({ message }) => message),
        );
      }),
    );
  });
});

/** Any JSON at all, and messages of the transcript with one thing in them replaced by any JSON. */
function almostMessages(from: Line["from"]): fc.Arbitrary<unknown> {
  const damaged = fc
    .tuple(fc.constantFrom(...TRANSCRIPT.filter((line) => line.from === from).map((line) => line.message)), fc.nat(), fc.jsonValue())
    .map(([message, at, value]) => {
      const fields = Object.keys(message);
      return { ...message, [fields[at % fields.length] as string]: value };
    });
  return fc.oneof(fc.jsonValue(), damaged);
}

describe("anything that is JSON", () => {
  test("from a worker is a message or a ProtocolError that repeats no value", () => {
    fc.assert(
      fc.property(almostMessages("worker"), (value) => {
        try {
          assert.equal(typeof parseWorkerMessage(bytesOf(JSON.stringify(value))).type, "string");
        } catch (error) {
          assert.ok(error instanceof ProtocolError, String(error));
        }
      }),
      { numRuns: 1000 },
    );
  });

  test("from a supervisor is a message, an unknown one, or a clear error", () => {
    fc.assert(
      fc.property(almostMessages("supervisor"), (value) => {
        try {
          const message = parseSupervisorMessage(JSON.stringify(value));
          assert.ok(message === null || typeof message.type === "string");
        } catch (error) {
          assert.match((error as Error).message, /^a (message without a type|\w+ message with a wrong \w+)$/);
        }
      }),
      { numRuns: 1000 },
    );
  });

  test("bytes that are no JSON are an error on either side", () => {
    assert.throws(() => parseWorkerMessage(Uint8Array.of(0xff, 0xfe)), ProtocolError);
    assert.throws(() => parseSupervisorMessage("{"), /not JSON/);
  });
});

test("an error does not repeat what a message holds", () => {
  const hello = TRANSCRIPT.find(({ message }) => message.type === "hello")?.message;
  const bad = { ...hello, environment: { PASSWORD: "hunter2" }, pid: "hunter2" };

  assert.throws(
    () => parseWorkerMessage(bytesOf(JSON.stringify(bad))),
    (error: Error) => /pid/.test(error.message) && !error.message.includes("hunter2"),
  );
});

test("fields that a newer peer adds are passed over", () => {
  assert.deepEqual(parseWorkerMessage(bytesOf('{"type":"held","taskId":"t","sequence":1,"new":true}')), {
    type: "held",
    taskId: "t",
    sequence: 1,
  });
  assert.equal(parseSupervisorMessage('{"type":"something-new"}'), null);
});
