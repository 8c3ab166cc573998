import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { tempDir } from "@berth/test-harness";
import { checkBoundaries } from "./check.ts";
import { importsOf } from "./imports.ts";

interface Package {
  layer: string;
  dependencies?: string[];
  exports?: Record<string, string>;
}

const PACKAGES: Record<string, Package> = {
  "libs/retry": { layer: "retry" },
  "libs/lane": { layer: "lane", dependencies: ["@berth/retry"] },
  "libs/vault": { layer: "vault", dependencies: ["@berth/lane"] },
  "libs/health": { layer: "health" },
  "apps/worker": { layer: "app" },
  "tests/harness": { layer: "test" },
};

const CLEAN: Record<string, string> = {
  "libs/lane/index.ts": 'export { retry } from "@berth/retry";',
  "libs/vault/index.ts": 'import "@berth/lane";\nimport { z } from "zod";\nimport "./keeper.ts";\nimport "node:fs";',
  "libs/vault/index.test.ts": 'import "@berth/test-harness";\nimport "fast-check";',
};

/** Lays a workspace out and checks it. */
async function check(files: Record<string, string>, packages: Record<string, Package> = {}): Promise<string[]> {
  await using root = await tempDir("lint");
  const lock: Record<string, unknown> = {};
  const write = async (path: string, text: string): Promise<void> => {
    await mkdir(dirname(join(root.path, path)), { recursive: true });
    await writeFile(join(root.path, path), text);
  };
  for (const [folder, { layer, dependencies = [], exports = { ".": "./index.ts" } }] of Object.entries({ ...PACKAGES, ...packages })) {
    const name = folder === "tests/harness" ? "@berth/test-harness" : `@berth/${folder.split("/")[1]}`;
    const declared = Object.fromEntries(dependencies.map((one) => [one, "*"]));
    lock[folder] = { dependencies: declared };
    await write(`${folder}/package.json`, JSON.stringify({ name, exports, dependencies: declared, nx: { tags: [`layer:${layer}`] } }));
  }
  const workspaces = ["apps/*", "libs/*", "tests/harness"];
  await write(
    "package.json",
    JSON.stringify({ name: "berth", workspaces, dependencies: { zod: "1" }, devDependencies: { "fast-check": "1" } }),
  );
  await write("package-lock.json", JSON.stringify({ packages: lock }));
  for (const [path, text] of Object.entries({ ...CLEAN, ...files })) await write(path, text);
  return checkBoundaries(root.path);
}

test("a workspace that keeps the rules has no violation", async () => {
  assert.deepEqual(await check({}), []);
});

const BROKEN: [string, string, string, RegExp, Record<string, Package>?][] = [
  [
    "an import upward",
    "libs/retry/a.ts",
    'import "@berth/lane";',
    /not below layer retry/,
    { "libs/retry": { layer: "retry", dependencies: ["@berth/lane"] } },
  ],
  [
    "an import sideways",
    "libs/health/a.ts",
    'import "@berth/vault";',
    /not below/,
    { "libs/health": { layer: "health", dependencies: ["@berth/vault"] } },
  ],
  ["a type import counts", "libs/retry/a.ts", 'import type { Lane } from "@berth/lane";', /does not declare/],
  ["an undeclared package of ours", "libs/health/a.ts", 'export * from "@berth/retry";', /health\/package\.json does not declare/],
  ["a path into another package", "libs/lane/a.ts", 'import "../retry/index.ts";', /import packages by their name/],
  ["a door that is not open", "libs/lane/a.ts", 'import "@berth/retry/internal";', /does not export/],
  ["an undeclared npm package", "libs/lane/a.ts", 'const x = await import("left-pad");', /does not declare/],
  ["a devDependency on a host", "libs/lane/a.ts", 'import fc from "fast-check";', /a devDependency/],
  ["test servers outside a test", "libs/lane/a.ts", 'import "@berth/test-harness";', /outside a test/],
  ["Node in the worker's core", "apps/worker/core/a.ts", 'import { connect } from "node:net";', /must run without Node/],
  [
    "a dependency that nothing uses",
    "libs/health/a.ts",
    "",
    /nothing in it imports/,
    { "libs/health": { layer: "health", dependencies: ["@berth/retry"] } },
  ],
  ["a layer that does not exist", "libs/health/a.ts", "", /names no layer/, { "libs/health": { layer: "misc" } }],
];

for (const [name, path, text, message, packages] of BROKEN) {
  test(`${name} is a violation`, async () => {
    const violations = await check({ [path]: text }, packages);

    assert.equal(violations.length, 1, violations.join("\n"));
    assert.match(violations[0] ?? "", message);
  });
}

test("imports are found in every form, and not in comments", () => {
  const source = `
import a from "a";
import {
  b,
} from "b";
import type { C } from "c";
export * from "d";
export { e } from "e";
// import x from "comment";
/* import y from "comment"; */
const f = await import("zod");
const entry = new URL("./g.thread.ts", import.meta.url);
const text = "from \\"h\\"";
import "node:os";`;

  assert.deepEqual(
    importsOf(source).map(({ specifier, line }) => `${specifier}:${line}`),
    ["a:2", "b:5", "c:6", "d:7", "e:8", "zod:11", "./g.thread.ts:12", "node:os:14"],
  );
});
