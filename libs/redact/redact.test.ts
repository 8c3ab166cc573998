import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import fc from "fast-check";
import { pino } from "pino";
import { formsOf } from "./forms.ts";
import { maskingDestination, SecretRegistry } from "./index.ts";
import { leaksInFiles, leaksInText } from "./proof.ts";

const SOURCE = "vault://secret/app?key=password";
const LABEL = `[secret from ${SOURCE}]`;

function registryWith(value: string, name?: string): SecretRegistry {
  const registry = new SecretRegistry();
  registry.add(value, SOURCE, { holder: "task", ...(name === undefined ? {} : { name }) });
  return registry;
}

describe("SecretRegistry", () => {
  for (const [what, text] of [
    ["as it is", "password is s3cr3t-v4lue!"],
    ["twice", "s3cr3t-v4lue!s3cr3t-v4lue!"],
    ["in base64", Buffer.from("s3cr3t-v4lue!").toString("base64")],
    ["in a Basic header", `Authorization: Basic ${Buffer.from("user:s3cr3t-v4lue!").toString("base64")}`],
    ["in a Basic header at another alignment", `Authorization: Basic ${Buffer.from("admin1:s3cr3t-v4lue!").toString("base64")}`],
    ["in a URL", `https://user:${encodeURIComponent("s3cr3t-v4lue!")}@host/`],
  ] as const) {
    it(`masks a value ${what}`, () => {
      const masked = registryWith("s3cr3t-v4lue!").mask(text);

      assert.deepEqual(leaksInText(masked, "text", [{ label: "value", value: "s3cr3t-v4lue!" }]), []);
      assert.ok(masked.includes(LABEL));
    });
  }

  it("masks values with quotes, newlines and control characters in JSON and in JSON inside JSON", () => {
    const value = 'line one "quoted"\n\\ line two\t\u0001';
    const registry = registryWith(value);
    const once = JSON.stringify({ message: value });
    const twice = JSON.stringify({ message: once });

    assert.equal(registry.mask(once), `{"message":"${LABEL}"}`);
    assert.ok(!registry.mask(twice).includes("quoted"));
  });

  it("masks the lines of a key one by one", () => {
    const registry = registryWith("-----BEGIN KEY-----\nMIIEvQIBADANBgkqhki\nG9w0BAQEFAASCBKcwgg\n-----END KEY-----\n");

    assert.equal(registry.mask("read MIIEvQIBADANBgkqhki"), `read ${LABEL}`);
    assert.equal(registry.mask("-----BEGIN KEY-----"), "-----BEGIN KEY-----");
  });

  it("leaves no part of overlapping values", () => {
    const registry = registryWith("abcdefghij");
    registry.add("ghijklmnop", "other", { holder: "task" });
    registry.add("abcdefghijkl", "longer", { holder: "task" });

    assert.equal(registry.mask("<abcdefghijklmnop>"), "<[secret from longer]>");
  });

  it("cuts no weak value out of other words, but masks it where its variable is named", () => {
    const registry = registryWith("abc", "PIN");
    registry.add("5432", "port", { holder: "task", name: "PORT" });
    registry.add("true", "flag", { holder: "task", name: "FLAG" });

    assert.equal(registry.mask('abcdef {"healthy":true,"pid":5432}'), 'abcdef {"healthy":true,"pid":5432}');
    assert.equal(registry.mask("PIN=abc PORT=5432"), `PIN=${LABEL} PORT=[secret from port]`);
    assert.equal(registry.mask('{"FLAG":"true"}'), '{"FLAG":"[secret from flag]"}');
    assert.deepEqual(registry.maskDeep({ PIN: "abc", other: "abcd" }), { PIN: LABEL, other: "abcd" });
  });

  it("masks a value under eight characters only as a whole word", () => {
    const registry = registryWith("rootpw");

    assert.equal(registry.mask("user:rootpw@host notrootpwx"), `user:${LABEL}@host notrootpwx`);
  });

  it("forgets a value when its last holder lets go", () => {
    const registry = new SecretRegistry();
    for (const holder of ["one", "two", "two"]) registry.add("shared-value", SOURCE, { holder });

    registry.release("one");
    assert.equal(registry.mask("shared-value"), LABEL);
    registry.release("two");
    assert.equal(registry.mask("shared-value"), "shared-value");
    assert.equal(registry.size, 0);
  });

  it("masks objects in depth, with cycles, errors, maps and keys, and shares what is clean", () => {
    const registry = registryWith("s3cr3t-v4lue!");
    const clean = { fine: [1, 2] };
    const cyclic: Record<string, unknown> = {
      "s3cr3t-v4lue!": 1,
      clean,
      list: ["x s3cr3t-v4lue!"],
      map: new Map([["k", "s3cr3t-v4lue!"]]),
    };
    cyclic.self = cyclic;
    const error = Object.assign(new TypeError("bad s3cr3t-v4lue!", { cause: new Error("s3cr3t-v4lue!") }), { body: "s3cr3t-v4lue!" });

    const masked = registry.maskDeep(cyclic) as Record<string, unknown>;
    const maskedError = registry.maskDeep(error);

    assert.equal(registry.maskDeep(new DOMException("s3cr3t-v4lue!", "AbortError")).message, LABEL);
    assert.equal(masked[LABEL], 1);
    assert.equal(masked.clean, clean);
    assert.equal(masked.self, masked);
    assert.deepEqual(masked.map, new Map([["k", LABEL]]));
    assert.ok(maskedError instanceof TypeError);
    assert.equal(maskedError.message, `bad ${LABEL}`);
    assert.doesNotMatch(`${maskedError.stack}${(maskedError.cause as Error).message}${(maskedError as { body?: string }).body}`, /s3cr3t/);
  });

  it("never lets a value of eight characters or more through, whatever it is and wherever it stands", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 8, unit: "binary" }), fc.string(), fc.string(), (value, before, after) => {
        fc.pre(value.trim().length > 0 && !SOURCE.includes(value) && !/^\d{1,5}$/.test(value));
        const registry = registryWith(value);

        for (const text of [before + value + after, JSON.stringify({ text: before + value + after })]) {
          const masked = registry.mask(text).replaceAll(LABEL, "");
          assert.ok(!masked.includes(value) || (before + after).includes(value));
        }
      }),
    );
  });

  it("keeps a line of JSON parsable", () => {
    const registry = registryWith("1234567890");
    assert.deepEqual(JSON.parse(registry.maskJsonLine('{"n":1234567890,"s":"a1234567890b"}\n')), { n: LABEL, s: `a${LABEL}b` });
  });
});

describe("maskingDestination", () => {
  it("masks what pino writes: messages, fields, errors, bindings", () => {
    const lines: string[] = [];
    const registry = registryWith("s3cr3t-v4lue!");
    const log = pino({}, maskingDestination(registry, { write: (line) => void lines.push(line) })).child({ token: "s3cr3t-v4lue!" });

    log.error({ err: new Error("s3cr3t-v4lue!"), nested: { list: ["s3cr3t-v4lue!"] } }, "got s3cr3t-v4lue!");

    assert.equal(lines.length, 1);
    assert.deepEqual(leaksInText(lines[0] ?? "", "log", [{ label: "value", value: "s3cr3t-v4lue!" }]), []);
    assert.equal((JSON.parse(lines[0] ?? "") as { msg: string }).msg, `got ${LABEL}`);
  });
});

describe("the proof helpers", () => {
  it("find a value in every form and in files of any depth", async () => {
    const folder = await mkdtemp(join(tmpdir(), "berth-redact-"));
    try {
      const value = "żółć-s3cr3t/v4lue?";
      await mkdir(join(folder, "deep"));
      for (const [index, form] of formsOf(value).entries()) await writeFile(join(folder, "deep", `file-${index}`), `before ${form} after`);
      await writeFile(join(folder, "clean"), "nothing here");

      const leaks = await leaksInFiles([folder], [{ label: "password", value }]);

      assert.equal(new Set(leaks.map(({ where }) => where)).size, formsOf(value).length);
      assert.ok(leaks.every(({ label }) => label === "password"));
      assert.ok(!JSON.stringify(leaks).includes("s3cr3t"));
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
