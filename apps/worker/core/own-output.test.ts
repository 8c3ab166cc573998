import assert from "node:assert/strict";
import { test } from "node:test";
import { VirtualHost } from "../tests/virtual-host.ts";
import { OwnOutput } from "./own-output.ts";

/** A stdout that takes only so many bytes as it is told to. */
class Pipe {
  readonly machine = new VirtualHost();
  readonly output: OwnOutput;
  readonly told: string[] = [];
  read = "";
  room = 0;

  constructor() {
    const host = {
      ...this.machine.host,
      writeDescriptor: (fd: 1 | 2, bytes: Uint8Array) => {
        const taken = fd === 1 ? Math.min(this.room, bytes.length) : bytes.length;
        if (fd === 1) this.room -= taken;
        if (fd === 1) this.read += Buffer.from(bytes.subarray(0, taken)).toString();
        return taken;
      },
    };
    this.output = new OwnOutput(host, {
      takes: (more) => this.told.push(more ? "goes on" : "waits"),
      dropped: (fd, bytes) => this.told.push(`${fd} dropped ${bytes}`),
    });
  }

  write(text: string): void {
    this.output.write(1, Buffer.from(text));
  }
}

test("what a slow reader leaves waits in its order, and so do the children behind it", () => {
  const pipe = new Pipe();
  pipe.room = 5;
  const pieces = Array.from({ length: 30 }, (_, index) => `${index}:${"x".repeat(10_000)}\n`);
  for (const piece of pieces) pipe.write(piece);
  assert.deepEqual(pipe.told, ["waits"]);
  for (let round = 0; round < 100; round++) {
    pipe.room = 4000;
    pipe.machine.advance(200);
  }

  assert.equal(pipe.read, pieces.join(""));
  assert.deepEqual(pipe.told, ["waits", "goes on"]);
});

test("what nobody reads is dropped after a while, whole pieces of it, and counted when it flows again", () => {
  const pipe = new Pipe();
  pipe.room = 3;
  pipe.write("first\n");
  const piece = `${"y".repeat(99_999)}\n`;
  for (let count = 0; count < 4; count++) pipe.write(piece);
  assert.deepEqual(pipe.told, ["waits"]);
  pipe.machine.advance(6000);
  assert.deepEqual(pipe.told, ["waits", "goes on"]);
  pipe.write("lost too\n");

  pipe.room = 1e9;
  pipe.machine.advance(1000);
  pipe.write("again\n");
  assert.equal(pipe.read, "first\nagain\n");
  assert.deepEqual(pipe.told, ["waits", "goes on", `1 dropped ${4 * piece.length + 9}`]);
});

test("no more than 1 MiB waits, and the end waits for it no longer than it may", () => {
  const pipe = new Pipe();
  for (let count = 0; count < 200; count++) pipe.write("z".repeat(10_000));
  let over = 0;
  pipe.output.drained(1000, () => {
    over += 1;
  });
  pipe.machine.advance(900);
  assert.equal(over, 0);
  pipe.machine.advance(200);
  assert.equal(over, 1);

  pipe.room = 1e9;
  pipe.machine.advance(1000);
  assert.ok(pipe.read.length <= 1024 * 1024);
  assert.ok(pipe.told.includes(`1 dropped ${2_000_000 - pipe.read.length}`), pipe.told.join());
  pipe.output.drained(1000, () => {
    over += 1;
  });
  assert.equal(over, 2);
});

test("whoever gave a piece hears when it has left, and when nobody waits for it any more", () => {
  const pipe = new Pipe();
  const gone: string[] = [];
  const write = (name: string): void => pipe.output.write(1, Buffer.from(name.padEnd(10)), () => gone.push(name));
  pipe.room = 15;
  write("at once");
  write("half");
  write("queued");
  assert.deepEqual(gone, ["at once"]);
  pipe.room = 5;
  pipe.machine.advance(200);
  assert.deepEqual(gone, ["at once", "half"]);
  pipe.machine.advance(6000);
  assert.deepEqual(gone, ["at once", "half", "queued"]);
  write("stuck");
  assert.deepEqual(gone, ["at once", "half", "queued", "stuck"]);
});
