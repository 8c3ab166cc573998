import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DemultiplexError, Demultiplexer, type Frame } from "./demultiplex.ts";

const TYPES = { stdout: 1, stderr: 2, system: 3 } as const;

function encode(stream: keyof typeof TYPES, data: Uint8Array): Buffer {
  const header = Buffer.alloc(8);
  header[0] = TYPES[stream];
  header.writeUInt32BE(data.length, 4);
  return Buffer.concat([header, data]);
}

function collect(chunks: Iterable<Buffer>, demultiplexer = new Demultiplexer()): Frame[] {
  const frames: Frame[] = [];
  for (const chunk of chunks) demultiplexer.push(chunk, (frame) => frames.push(frame));
  return frames;
}

test("frames come out whole and in order, however the bytes are cut", () => {
  const frame = fc.record({
    stream: fc.constantFrom("stdout" as const, "stderr" as const, "system" as const),
    data: fc.uint8Array({ maxLength: 40 }),
  });
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 20 }), fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }), (frames, cuts) => {
      const bytes = Buffer.concat(frames.map((each) => encode(each.stream, each.data)));
      const chunks: Buffer[] = [];
      for (let offset = 0, cut = 0; offset < bytes.length; cut++) {
        const length = cuts[cut % cuts.length] as number;
        chunks.push(bytes.subarray(offset, offset + length));
        offset += length;
      }

      const seen = collect(chunks);

      assert.deepEqual(
        seen.map((each) => ({ stream: each.stream, data: Uint8Array.from(each.data) })),
        frames.map((each) => ({ stream: each.stream, data: Uint8Array.from(each.data) })),
      );
    }),
  );
});

test("a chunk with a hundred thousand tiny frames does not overflow the stack", () => {
  const bytes = Buffer.concat(Array.from({ length: 100_000 }, () => encode("stdout", Buffer.from("x"))));

  const frames = collect([bytes]);

  assert.equal(frames.length, 100_000);
});

test("the bytes of a cut frame are counted as pending", () => {
  const demultiplexer = new Demultiplexer();

  const frames = collect([encode("stderr", Buffer.from("abc")).subarray(0, 9)], demultiplexer);

  assert.equal(frames.length, 0);
  assert.equal(demultiplexer.pendingBytes, 9);
});

test("a terminal's raw output is told from a multiplexed stream", () => {
  assert.throws(() => collect([Buffer.from("hello from a terminal\r\n")]), DemultiplexError);
});

test("a frame over the limit is refused before it is buffered", () => {
  const header = Buffer.from([1, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]);

  assert.throws(() => collect([header]), /over the limit/);
  assert.throws(() => collect([header.subarray(0, 5), header.subarray(5)]), /over the limit/);
});
