import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { exampleFile, referencePage } from "./reference.ts";

// Writes what is made from the options table: node libs/config/generate.ts
const root = join(import.meta.dirname, "../..");
for (const [path, text] of [
  ["docs/reference/configuration.md", referencePage()],
  ["deploy/berth.yaml.example", exampleFile()],
] as const) {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}
