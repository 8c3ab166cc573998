import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ShellWordsError, shellWords } from "./shell-words.ts";

describe("shellWords", () => {
  const cases: [string, string[]][] = [
    ["", []],
    ["  \t\n ", []],
    ["nginx -g 'daemon off;'", ["nginx", "-g", "daemon off;"]],
    [`a"b c"'d e'f`, ["ab cd ef"]],
    [`"" ''`, ["", ""]],
    [`"a\\"b\\n\\$c"`, ['a"b\\n$c']],
    ["a\\ b c\\\nd", ["a b", "cd"]],
    ["'a\\b'", ["a\\b"]],
    ["$HOME * ~ ; # no", ["$HOME", "*", "~", ";", "#", "no"]],
  ];
  for (const [line, expected] of cases) it(JSON.stringify(line), () => assert.deepEqual(shellWords(line), expected));

  for (const line of ["'a", 'a "b', "a\\", '"a\\']) {
    it(`${JSON.stringify(line)} is refused`, () => assert.throws(() => shellWords(line), ShellWordsError));
  }

  it("gives back any words that are quoted", () => {
    fc.assert(
      fc.property(fc.array(fc.string()), (words) => {
        const line = words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");

        assert.deepEqual(shellWords(line), words);
      }),
    );
  });

  it("throws nothing but its own error", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom("a", " ", "'", '"', "\\", "\n", "$", "`") }), (line) => {
        try {
          shellWords(line);
        } catch (error) {
          assert.ok(error instanceof ShellWordsError);
        }
      }),
    );
  });

  it("splits as /bin/sh does", () => {
    // `unit` has nothing that sh expands or takes for an operator.
    const lines = fc.sample(fc.string({ unit: fc.constantFrom("a", "b", " ", "'", '"', "\\", "\t") }), 150).filter((line) => {
      try {
        shellWords(line);
        return true;
      } catch {
        return false;
      }
    });
    const script = lines.map((line) => `f ${line}\n`).join("");
    const { stdout, status } = spawnSync(
      "/bin/sh",
      ["-c", `f() { for w in "$@"; do printf '%s\\0' "$w"; done; printf '\\1'; }\n${script}`],
      { encoding: "utf8" },
    );

    assert.equal(status, 0);
    const split = stdout
      .split("\x01")
      .slice(0, -1)
      .map((words) => words.split("\0").slice(0, -1));
    assert.deepEqual(
      split,
      lines.map((line) => shellWords(line)),
    );
  });
});
