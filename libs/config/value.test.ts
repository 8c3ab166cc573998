import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { flagName } from "./flags.ts";
import type { OptionRecord, OptionTable } from "./option.ts";
import { OPTION_GROUPS, OPTIONS } from "./options.ts";
import { suggest } from "./suggest.ts";
import { defaultValue, formatValue, parseText } from "./value.ts";

const TABLE: OptionTable = OPTIONS;
const head = { scope: "host", environment: [], description: "", since: "0.1" } as const;

describe("the table", () => {
  it("holds each name, flag and variable once", () => {
    const variables = Object.values(TABLE).flatMap((option) => option.environment.map(({ name }) => name));

    assert.equal(new Set(variables).size, variables.length);
    assert.equal(new Set(Object.keys(TABLE).map(flagName)).size, Object.keys(TABLE).length);
    assert.equal(
      OPTION_GROUPS.reduce((sum, { options }) => sum + Object.keys(options).length, 0),
      Object.keys(TABLE).length,
    );
  });

  for (const [name, option] of Object.entries(TABLE)) {
    if (option.type === "yaml") continue;
    it(`${name}: its default fits and reads back`, () => {
      const value = defaultValue(option);

      assert.deepEqual(parseText(option, formatValue(option, value)), { ok: true, value });
    });
  }
});

describe("parseText", () => {
  const cases: [Partial<OptionRecord>, string, unknown][] = [
    [{ type: "duration" }, "1m40s", 100_000],
    [{ type: "duration" }, "0", 0],
    [{ type: "duration" }, "30", undefined],
    [{ type: "duration" }, "-1s", undefined],
    [{ type: "duration" }, "99999999999999h", undefined],
    [{ type: "seconds" }, "5", 5000],
    [{ type: "seconds" }, "1m", 60_000],
    [{ type: "seconds" }, "-5", undefined],
    [{ type: "seconds" }, "0x10", 16_000],
    // A timer of more than 24 days fires at once: a grace period of a year would be none.
    [{ type: "seconds" }, "31536000", undefined],
    [{ type: "seconds", long: true }, "31536000", 31_536_000_000],
    [{ type: "duration" }, "577h", undefined],
    [{ type: "duration", positive: true }, "1us", undefined],
    [{ type: "bytes", minimum: 1024 }, "1000", undefined],
    [{ type: "integer", minimum: 1, maximum: 10 }, "10", 10],
    [{ type: "integer", minimum: 1, maximum: 10 }, "11", undefined],
    [{ type: "integer" }, "0x10", 16],
    [{ type: "integer" }, "010", 8],
    [{ type: "integer" }, "09", undefined],
    [{ type: "integer" }, "1e3", undefined],
    [{ type: "integer" }, "", undefined],
    [{ type: "boolean" }, "T", true],
    [{ type: "boolean" }, "yes", undefined],
    [{ type: "bytes" }, "8MiB", 8_388_608],
    [{ type: "bytes" }, "1.5kB", 1500],
    [{ type: "bytes" }, "8 miles", undefined],
    [{ type: "address" }, "[::1]:514", "[::1]:514"],
    [{ type: "address" }, "::1:514", undefined],
    [{ type: "address" }, "host:0", undefined],
    [{ type: "path" }, "relative", undefined],
    [{ type: "pattern" }, "[", undefined],
    [{ type: "list" }, "", []],
  ];
  for (const [option, text, expected] of cases) {
    it(`${option.type} ${JSON.stringify(text)} → ${JSON.stringify(expected)}`, () => {
      const parsed = parseText({ ...head, ...option } as OptionRecord, text);

      assert.deepEqual(parsed.ok ? parsed.value : undefined, expected);
    });
  }

  it("reads back what formatValue writes", () => {
    const numeric = fc.constantFrom<OptionRecord>(
      { ...head, type: "duration", default: "0s", long: true },
      { ...head, type: "seconds", default: 0, long: true },
      { ...head, type: "bytes", default: "0" },
      { ...head, type: "integer", default: 0 },
    );
    fc.assert(
      fc.property(numeric, fc.nat(), (option, value) => {
        assert.deepEqual(parseText(option, formatValue(option, value)), { ok: true, value });
      }),
    );
  });
});

describe("suggest", () => {
  const cases: [string, string | undefined][] = [
    ["logSince", "logsSince"],
    ["kill_task_timeout", "killTaskTimeout"],
    ["somethingElseEntirely", undefined],
    ["", undefined],
  ];
  for (const [name, expected] of cases) it(`${name} → ${expected}`, () => assert.equal(suggest(name, Object.keys(TABLE)), expected));
});
