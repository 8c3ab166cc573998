import { globSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { importsOf } from "./imports.ts";
import { readWorkspace } from "./workspace.ts";

/**
 * Writes into each package.json the workspace packages that its files import, and leaves npm packages as they are. Whether they
 * may is for the layers to say. Returns the files that it changed.
 */
export function declareDependencies(root: string): string[] {
  const { packages } = readWorkspace(root);
  const names = new Set(packages.map(({ name }) => name));
  const changed: string[] = [];
  for (const { name, folder, dependencies } of packages) {
    const own = usedPackages(root, folder).filter((used) => names.has(used) && used !== name && used !== "@berth/test-harness");
    const wanted = [...own, ...dependencies.filter((dependency) => !names.has(dependency))].sort();
    if (wanted.join() === dependencies.join()) continue;
    const path = join(root, folder, "package.json");
    const manifest = JSON.parse(readFileSync(path, "utf8")) as { dependencies?: Record<string, string> };
    const versions = manifest.dependencies ?? {};
    delete manifest.dependencies;
    if (wanted.length > 0) manifest.dependencies = Object.fromEntries(wanted.map((one) => [one, versions[one] ?? "*"]));
    writeFileSync(path, `${JSON.stringify(manifest, null, 2)}\n`);
    changed.push(`${folder}/package.json`);
  }
  return changed;
}

function usedPackages(root: string, folder: string): string[] {
  const exclude = (path: string): boolean => /(^|\/)(node_modules|dist|target)$/.test(path);
  const files = globSync(`${folder}/**/*.{ts,mjs}`, { cwd: root, exclude });
  const specifiers = files.flatMap((file) => importsOf(readFileSync(join(root, file), "utf8")).map(({ specifier }) => specifier));
  return [...new Set(specifiers.map((specifier) => specifier.split("/", 2).join("/")))];
}
