import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, mkdirSync, openSync, readFileSync, readSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { tempDir, waitFor } from "@berth/test-harness";
import fc from "fast-check";
import { hostsUnderTest, startProbe } from "./test-kit.ts";

/** A pipe that is read by whoever reads `fd`. */
async function openPipe(): Promise<AsyncDisposable & { fd: number }> {
  const folder = await tempDir("fifo");
  const path = join(folder.path, "fifo");
  assert.equal(spawnSync("mkfifo", [path]).status, 0);
  const fd = openSync(path, "r+");
  return {
    fd,
    [Symbol.asyncDispose]: async () => {
      closeSync(fd);
      await folder.remove();
    },
  };
}

const { hosts } = await hostsUnderTest();
for (const host of hosts) {
  const lean = host.name === "lean";

  describe(`the process on the ${host.name} host`, () => {
    it("an erased variable is gone, for children and in /proc", async () => {
      await using probe = await startProbe(host, { environment: { TOKEN: "very-secret", TOKEN_2: "kept" } });
      const environ = (): string => readFileSync(`/proc/${probe.pid}/environ`, "latin1");
      assert.match(environ(), /very-secret/);

      await probe.call("eraseEnvironment", "TOKEN");

      const left = await probe.call("environment");
      assert.deepEqual([left.TOKEN, left.TOKEN_2], [undefined, "kept"]);
      assert.doesNotMatch(environ(), /very-secret/);
      assert.match(environ(), /TOKEN_2=kept/);
    });

    it("the title is what ps shows, longer and shorter ones", async () => {
      await using probe = await startProbe(host, { environment: { ROOM: "x".repeat(200) } });
      const shown = (): string => readFileSync(`/proc/${probe.pid}/cmdline`, "utf8").replace(/\0+$/, "");

      await probe.call("setTitle", "abc");
      const short = shown();
      await probe.call("setTitle", "0123456789".repeat(8));
      const long = shown();

      assert.equal(short, "abc");
      assert.ok("0123456789".repeat(8).startsWith(long) && long.length >= 8, long);
      assert.equal((await probe.call("environment")).ROOM, "x".repeat(200));
    });

    it("knows what its descriptors are", async () => {
      await using folder = await tempDir("fd");
      const path = join(folder.path, "out");
      const file = openSync(path, "w");
      await using probe = await startProbe(host, { stdio: ["ignore", file, "pipe"] });
      closeSync(file);
      const { dev, ino } = statSync(path, { bigint: true });

      assert.deepEqual(await probe.call("descriptor", 1), { kind: "file", device: String(dev), inode: String(ino) });
      assert.equal((await probe.call("descriptor", 2)).kind, "pipe");
    });

    it("its own output never waits for a pipe's reader: what is taken arrives, in order", async () => {
      await using pipe = await openPipe();
      const text = Array.from({ length: 1000 }, (_, index) => `line ${index}\n`).join("");
      await using probe = await startProbe(host, { stdio: ["ignore", pipe.fd, "pipe"] });

      const taken = await probe.call("fillDescriptor", 1, text);
      assert.equal(await probe.call("fillDescriptor", 1, text), 0);

      const read = Buffer.alloc(taken);
      for (let at = 0; at < taken; ) at += readSync(pipe.fd, read, at, taken - at, null);
      assert.equal(read.toString(), text.repeat(Math.ceil(taken / text.length)).slice(0, taken));
      await probe.until("fillDescriptor", [1, text], (count) => count > 0);
    });

    // Node makes the pipes of its children as sockets.
    it("nor for a socket's", async () => {
      await using probe = await startProbe(host);
      probe.process.stdout?.pause();
      let [taken, refused] = [0, 0];
      while (refused < 10) {
        const count = await probe.call("fillDescriptor", 1, "x".repeat(5000));
        taken += count;
        refused = count > 0 ? 0 : refused + 1;
      }

      probe.process.stdout?.resume();
      await waitFor(() => probe.stdout().length === taken, { what: `all of the ${taken} bytes` });
    });

    it("it ends with its code although nobody reads its output", async () => {
      await using pipe = await openPipe();
      await using probe = await startProbe(host, { stdio: ["ignore", pipe.fd, "pipe"] });
      await probe.call("fillDescriptor", 1, "x".repeat(4096));

      probe.send("exit", 7);

      assert.deepEqual(await probe.ended, [7, null]);
    });

    it("timers: in order, cancelled ones never, none before it is set", async () => {
      await using probe = await startProbe(host);
      const timers = [
        ["third", 30],
        ["first", 0],
        ["never", 10],
        ["second", 10],
        ["far", 3_000_000_000],
      ];

      await probe.call("setTimers", timers, ["never"]);
      await waitFor(async () => (await probe.call("timers")).includes("third"));

      assert.deepEqual(await probe.call("timers"), ["set", "first", "second", "third"]);
    });

    it("clocks: one tells the time, the other only goes on", async () => {
      await using probe = await startProbe(host);
      const before = Date.now();
      const first = await probe.call("monotonicClock");
      const wall = await probe.call("wallClock");
      const second = await probe.call("monotonicClock");

      assert.ok(wall >= before - 1 && wall <= Date.now() + 1);
      assert.ok(second >= first);
    });

    it("small files", async () => {
      await using probe = await startProbe(host);
      const at = (name: string): string => join(probe.folder, name);
      writeFileSync(at("file"), Buffer.from([0x61, 0xff, 0x62]));
      symlinkSync("target", at("link"));
      mkdirSync(at("full"));
      writeFileSync(at("full/one"), "");

      assert.equal(await probe.call("readTextFile", at("file")), "a\uFFFDb");
      assert.equal(await probe.call("readTextFile", at("none")), null);
      assert.equal(await probe.call("writeTextFile", at("file"), "new"), true);
      assert.match(readFileSync(at("file"), "utf8"), /^new/);
      assert.equal(await probe.call("writeTextFile", at("none"), "new"), false);
      assert.deepEqual(await probe.call("listDirectory", at("full")), ["one"]);
      assert.deepEqual(await probe.call("listDirectory", at("none")), []);
      assert.equal(await probe.call("makeDirectory", at("made")), true);
      assert.equal(await probe.call("makeDirectory", at("none/made")), false);
      assert.equal(await probe.call("removeDirectory", at("made")), true);
      assert.equal(await probe.call("removeDirectory", at("full")), false);
      assert.equal(await probe.call("readLink", at("link")), "target");
      assert.equal(await probe.call("readLink", at("file")), null);
    });

    it("decodes any bytes as Node does", async () => {
      await using probe = await startProbe(host);
      // Mostly bytes that have a meaning in UTF-8.
      const byte = fc.oneof(
        fc.integer({ min: 0, max: 255 }),
        fc.constantFrom(0x61, 0x80, 0xbf, 0xc3, 0xe2, 0x82, 0xac, 0xed, 0xa0, 0xf0, 0x9f, 0xf4, 0x90),
      );
      await fc.assert(
        fc.asyncProperty(fc.array(byte, { maxLength: 40 }), async (bytes) => {
          const decoded = await probe.call("recode", Buffer.from(bytes).toString("base64"));

          assert.equal(decoded, Buffer.from(bytes).toString());
        }),
        { numRuns: 300 },
      );
    });

    it("encodes any text as Node does, lone surrogates too", async () => {
      await using probe = await startProbe(host);
      const unit = fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("\ud800", "\udc00", "€", "😀", "\0"));
      await fc.assert(
        fc.asyncProperty(fc.array(unit, { maxLength: 10 }), async (parts) => {
          const text = parts.join("");

          assert.equal(await probe.call("encode", text), Buffer.from(text).toString("base64"));
        }),
        { numRuns: 200 },
      );
    });

    it("base64 of any length comes back whole, also with line breaks and without padding", async () => {
      await using probe = await startProbe(host);
      for (const length of [0, 1, 2, 3, 4, 255, 256, 65_537]) {
        const whole = randomBytes(length).toString("base64");
        const variants = [whole, whole.replaceAll("=", ""), whole.replace(/.{1,76}/g, "$&\r\n")];

        for (const text of variants) assert.equal(await probe.call("recode64", text), whole);
      }
    });

    it("random bytes are as many as asked for, and others each time", async () => {
      await using probe = await startProbe(host);
      const [one, other] = [await probe.call("randomBytes", 16), await probe.call("randomBytes", 16)];

      assert.equal(Buffer.from(one, "base64").length, 16);
      assert.notEqual(one, other);
    });

    it("an uncaught error ends it, with message and place", async () => {
      await using probe = await startProbe(host);

      probe.send("crash", "design");
      const [code] = await probe.ended;

      assert.match(probe.stderr(), /a crash by design/);
      assert.match(probe.stderr(), /probe\.ts:\d+/);
      if (lean) assert.equal(code, 70);
      else assert.notEqual(code, 0);
    });

    it("recursion without end is an error, not a crash of the engine", async () => {
      await using probe = await startProbe(host);

      probe.send("crash", "recursion");

      assert.equal(typeof (await probe.ended)[0], "number", probe.stderr());
      assert.match(probe.stderr(), /call stack/i);
    });

    // Node's own limit counts no byte arrays: there it would be the machine's memory that is used up.
    it("memory without end meets the limit", { skip: lean ? false : "only the lean host has a limit of its own" }, async () => {
      await using probe = await startProbe(host);

      probe.send("crash", "memory");

      assert.deepEqual(await probe.ended, [70, null]);
      assert.match(probe.stderr(), /out of memory/i);
    });
  });
}
