import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, copyFileSync, linkSync, renameSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { tempDir, waitFor } from "@berth/test-harness";
import { endOfSandboxFile } from "./text-file.ts";
import { TextSource } from "./text-source.ts";
import type { LogPosition, TextPlace } from "./types.ts";

type Position = Extract<LogPosition, { kind: "text" }>;

class Stage implements AsyncDisposable {
  readonly folder: Awaited<ReturnType<typeof tempDir>>;
  readonly gaps: string[] = [];
  source: TextSource | undefined;

  constructor(folder: Awaited<ReturnType<typeof tempDir>>) {
    this.folder = folder;
    for (const name of ["stdout", "stderr"]) writeFileSync(this.path(name), "");
  }

  path(name: string): string {
    return join(this.folder.path, name);
  }

  write(text: string, name = "stdout"): void {
    appendFileSync(this.path(name), text);
  }

  end(name = "stdout"): TextPlace | undefined {
    const { dev, ino } = statSync(this.path(name), { bigint: true });
    return endOfSandboxFile(this.path(name), { device: String(dev), inode: String(ino) });
  }

  beginning(): Position {
    return { kind: "text", stdout: this.end() as TextPlace, stderr: this.end("stderr") as TextPlace };
  }

  /** Another reader, as after a `kill -9`. */
  follow(position: Position): void {
    this.source?.close();
    this.source = new TextSource({
      files: [
        { stream: "stdout", path: this.path("stdout") },
        { stream: "stderr", path: this.path("stderr") },
      ],
      maxLineBytes: 1024 * 1024,
      position,
      onGap: (reason) => this.gaps.push(reason),
    });
    this.source.open();
  }

  lines(): string[] {
    const lines: string[] = [];
    while (this.source?.read((line) => lines.push(line.buffer.toString("utf8", line.start, line.end))) === true);
    return lines;
  }

  position(): Position {
    return this.source?.position() as Position;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.source?.close();
    await this.folder.remove();
  }
}

async function stageWith(before = ""): Promise<Stage> {
  const stage = new Stage(await tempDir("text"));
  stage.write(before);
  return stage;
}

test("lines begin where the files ended before, the worker's own are left out, an unfinished one waits", async () => {
  await using stage = await stageWith("of the shell\n");
  stage.follow(stage.beginning());

  stage.write("one\ntwo\nthr");
  stage.write("2026-11-21T09:15:21.123Z berth-worker: of its own\nerr\n", "stderr");
  assert.deepEqual(stage.lines(), ["one", "two", "err"]);
  stage.write("ee\n");
  assert.deepEqual(stage.lines(), ["three"]);
  stage.write("last");
  assert.deepEqual(stage.lines(), []);
  const rest: string[] = [];
  stage.source?.flush((line) => rest.push(line.buffer.toString("utf8", line.start, line.end)));
  assert.deepEqual(rest, ["last"]);
  assert.deepEqual(stage.gaps, []);
});

test("another reader goes on at the position; an unfinished line is read again from its beginning", async () => {
  await using stage = await stageWith();
  const beginning = stage.beginning();
  stage.write("one\ntw");
  stage.follow(beginning);
  assert.deepEqual(stage.lines(), ["one"]);
  const position = stage.position();
  assert.equal(position.stdout.offset, 4);

  stage.write("o\nthree\n");
  stage.follow(position);
  assert.deepEqual(stage.lines(), ["two", "three"]);
  stage.follow(beginning);
  assert.deepEqual(stage.lines(), ["one", "two", "three"]);
});

test("a file that is renamed is read on under its new name, now and by another reader", async () => {
  await using stage = await stageWith();
  stage.follow(stage.beginning());
  stage.write("one\n");
  assert.deepEqual(stage.lines(), ["one"]);

  renameSync(stage.path("stdout"), stage.path("stdout-20260101"));
  stage.write("somebody else's\n");
  stage.write("two\n", "stdout-20260101");
  assert.deepEqual(stage.lines(), ["two"]);
  stage.write("three\n", "stdout-20260101");
  stage.follow(stage.position());
  assert.deepEqual(stage.lines(), ["three"]);
  assert.deepEqual(stage.gaps, []);
});

test("a file that is copied and cut off loses nothing, whenever the reader looks", async () => {
  await using stage = await stageWith();
  const cutOff = (copy: string): void => {
    copyFileSync(stage.path("stdout"), stage.path(copy));
    truncateSync(stage.path("stdout"));
  };
  stage.follow(stage.beginning());
  stage.write("one\ntwo\n");
  assert.deepEqual(stage.lines(), ["one", "two"]);
  const position = stage.position();

  stage.write("three\nfo");
  cutOff("stdout.1");
  stage.write("ur\nfive\nand more than was in it before\n");
  assert.deepEqual(stage.lines(), ["three", "four", "five", "and more than was in it before"]);

  // While nobody reads, twice.
  renameSync(stage.path("stdout.1"), stage.path("stdout.2"));
  cutOff("stdout.1");
  stage.write("six\n");
  stage.follow(position);
  assert.deepEqual(stage.lines(), ["three", "four", "five", "and more than was in it before", "six"]);
  assert.deepEqual(stage.gaps, []);
});

test("copies with a date are found as well", async () => {
  await using stage = await stageWith();
  stage.follow(stage.beginning());
  stage.write("one\n");
  assert.deepEqual(stage.lines(), ["one"]);
  const position = stage.position();
  for (const day of ["21", "22"]) {
    stage.write(`on the ${day}\n`);
    copyFileSync(stage.path("stdout"), stage.path(`stdout-202611${day}`));
    truncateSync(stage.path("stdout"));
  }
  stage.write("today\n");

  stage.follow(position);
  assert.deepEqual(stage.lines(), ["on the 21", "on the 22", "today"]);
  assert.deepEqual(stage.gaps, []);
});

test("a position in an unfinished line that goes on behind a cut is the line's beginning", async () => {
  await using stage = await stageWith();
  stage.follow(stage.beginning());
  stage.write("one\ntw");
  assert.deepEqual(stage.lines(), ["one"]);
  copyFileSync(stage.path("stdout"), stage.path("stdout.1"));
  truncateSync(stage.path("stdout"));
  stage.write("o");
  assert.deepEqual(stage.lines(), []);
  const position = stage.position();

  stage.write("!\n");
  stage.follow(position);
  assert.deepEqual(stage.lines(), ["two!"]);
  assert.deepEqual(stage.gaps, []);
});

test("what was cut off without a copy, or removed, is a gap", async () => {
  await using stage = await stageWith();
  const beginning = stage.beginning();
  stage.follow(beginning);
  stage.write("one\ntwo\n");
  assert.deepEqual(stage.lines(), ["one", "two"]);
  truncateSync(stage.path("stdout"));
  stage.write("a\n");
  assert.deepEqual(stage.lines(), ["a"]);
  assert.match(stage.gaps.join(), /stdout was cut off/);

  rmSync(stage.path("stderr"));
  stage.follow(beginning);
  assert.match(stage.gaps.join(), /stderr was removed/);
  assert.deepEqual(stage.lines(), ["a"]);
});

test("neither a link nor a FIFO nor a folder in the sandbox is followed, read or waited for", async () => {
  await using stage = await stageWith("x\n");
  const secret = stage.path("secret");
  writeFileSync(secret, "not for the task's eyes\n");
  const { dev, ino } = statSync(secret, { bigint: true });
  for (const name of ["stdout", "stderr"]) rmSync(stage.path(name));
  symlinkSync(secret, stage.path("stdout"));
  assert.equal(spawnSync("mkfifo", [stage.path("stderr"), stage.path("stdout.1")]).status, 0);
  spawnSync("mkfifo", [stage.path("stdout.2.gz")]);

  assert.equal(endOfSandboxFile(stage.path("stdout"), { device: String(dev), inode: String(ino) }), undefined);
  const place = { inode: String(ino), offset: 0, tail: "" };
  stage.follow({ kind: "text", stdout: { ...place, inode: "1" }, stderr: place });
  assert.deepEqual(stage.lines(), []);
  const files = [{ stream: "stdout", path: stage.path("stdout") }] as const;
  const reader = new TextSource({ files, maxLineBytes: 1024, onGap: () => {} });
  reader.open();
  assert.equal(
    reader.read(() => assert.fail("something was read")),
    false,
  );
  reader.close();
});

test("a hard link under the name of an old part is not read", async () => {
  await using stage = await stageWith("x\n");
  writeFileSync(stage.path("secret"), "not for the task's eyes\n");
  linkSync(stage.path("secret"), stage.path("stdout.1"));
  const files = [{ stream: "stdout", path: stage.path("stdout") }] as const;
  const reader = new TextSource({ files, maxLineBytes: 1024, onGap: () => {} });
  reader.open();

  const lines: string[] = [];
  while (reader.read((line) => lines.push(line.buffer.toString("utf8", line.start, line.end))));
  reader.close();

  assert.deepEqual(lines, ["x"]);
});

test("a quiet file wakes the reader when it grows", async () => {
  await using stage = await stageWith();
  stage.follow(stage.beginning());
  const { source } = stage;
  assert.ok(source !== undefined);
  // Long enough for the reader to have gone over to watching.
  for (let round = 0; round < 9; round++) await source.wait();

  const lines: string[] = [];
  const reading = (async () => {
    while (lines.length === 0) {
      lines.push(...stage.lines());
      if (lines.length === 0) await source.wait();
    }
  })();
  stage.write("news\n");
  await waitFor(() => lines.length > 0, { what: "the line", deadline: 4000 });
  await reading;
  assert.deepEqual(lines, ["news"]);
});
