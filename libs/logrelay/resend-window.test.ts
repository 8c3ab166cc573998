import assert from "node:assert/strict";
import { test } from "node:test";
import { ResendWindow } from "./resend-window.ts";
import type { Parcel } from "./transport.ts";

function parcel(bytes: Buffer, frames = 1, resent?: (frames: number) => void): Parcel {
  const ends = Array.from({ length: frames }, (_, frame) => Math.round((bytes.length * (frame + 1)) / frames));
  return {
    bytes,
    ends,
    next: frames,
    cancelled: false,
    done: () => assert.fail("it was done"),
    ...(resent === undefined ? {} : { resent }),
  };
}

const contents = (parcels: Parcel[]): string => Buffer.concat(parcels.map(({ bytes }) => bytes)).toString("latin1");

test("gives back what was taken in the two seconds before, in order and once, whatever became of the buffers", () => {
  const window = new ResendWindow();
  const first = Buffer.from("one ");
  window.keep(parcel(Buffer.from("old ")), 999);
  window.keep(parcel(first), 1_000);
  window.keep(parcel(Buffer.from("two ")), 2_500);
  first.fill("x");

  assert.equal(contents(window.take(3_000)), "one two ");
  assert.equal(contents(window.take(3_000)), "");
  window.keep(parcel(Buffer.from("three")), 4_000);
  assert.equal(contents(window.take(6_001)), "");
});

test("gives back all that it has where the moment of the break is not known", () => {
  const window = new ResendWindow();
  window.keep(parcel(Buffer.from("one ")), 1_000);
  window.keep(parcel(Buffer.from("two ")), 2_000);

  assert.equal(contents(window.take(undefined)), "one two ");
});

test("counts the frames of what is sent again, each time", () => {
  let frames = 0;
  const window = new ResendWindow();
  const count = (more: number): void => {
    frames += more;
  };
  window.keep(parcel(Buffer.from("abc"), 3, count), 0);
  for (let round = 0; round < 2; round++) {
    const [again] = window.take(0);
    assert.ok(again);
    again.resent?.(again.ends.length);
    again.done(1, 0, "");
    window.keep(again, 0);
  }
  assert.equal(frames, 6);
});

test("keeps at most 4 MiB, the newest, of any sizes", () => {
  const window = new ResendWindow();
  const sizes = [1, 64 * 1024, 200 * 1024, 300 * 1024, 1024 * 1024, 256 * 1024, 7];
  let expected = "";
  for (let round = 0; round < 40; round++) {
    for (const [index, size] of sizes.entries()) {
      const bytes = Buffer.alloc(size, String.fromCharCode(65 + ((round * sizes.length + index) % 26)));
      window.keep(parcel(bytes), round);
      expected = (expected + bytes.toString("latin1")).slice(-4 * 1024 * 1024);
    }
  }
  const got = contents(window.take(40));
  assert.ok(got.length > 2.5 * 1024 * 1024 && got.length <= 4 * 1024 * 1024);
  assert.ok(expected.endsWith(got));

  window.keep(parcel(Buffer.alloc(6 * 1024 * 1024, "z")), 50);
  assert.equal(window.take(50)[0]?.bytes.length, 6 * 1024 * 1024);
});
