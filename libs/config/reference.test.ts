import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { loadSettings } from "./load.ts";
import { OPTIONS } from "./options.ts";
import { exampleFile, helpText, referencePage } from "./reference.ts";

const root = join(import.meta.dirname, "../..");

describe("what is made from the table", () => {
  for (const [path, text] of [
    ["docs/reference/configuration.md", referencePage()],
    ["deploy/berth.yaml.example", exampleFile()],
  ] as const) {
    it(`${path} is up to date`, () => {
      assert.equal(readFileSync(join(root, path), "utf8"), text, "run: node libs/config/generate.ts");
    });
  }

  it("the example file, with every line uncommented, gives the defaults", () => {
    const text = exampleFile().replace(/^#(?=\w+:)/gm, "");
    const { settings, mistakes, origins } = loadSettings({ argv: [], environment: {}, readFile: () => text });

    assert.deepEqual(mistakes, []);
    assert.deepEqual(settings, loadSettings({ argv: [], environment: {}, readFile: () => undefined }).settings);
    assert.notEqual(origins.sidecarUrl, "default");
  });

  it("the help names every flag, and no line is longer than it may be", () => {
    const help = helpText(100);

    assert.match(help, /--kill-task-timeout <seconds>/);
    assert.match(help, /--\[no-\]seed-sidecar/);
    assert.ok(help.split("\n").every((line) => line.length <= 100));
    assert.ok(Object.keys(OPTIONS).length > 100);
  });
});
