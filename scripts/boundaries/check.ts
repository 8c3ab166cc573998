import { globSync, readFileSync } from "node:fs";
import { join, normalize } from "node:path";
import { type Import, importsOf } from "./imports.ts";
import { readWorkspace, type Workspace, type WorkspacePackage } from "./workspace.ts";

/**
 * The layers, lowest first. A package imports only from layers below its own; two of one row know nothing of each other. The
 * name is what follows "layer:" in the nx tag of a package.json.
 */
export const LAYERS: readonly (readonly string[])[] = [
  ["recordio", "duration", "retry", "redact", "admin-api"],
  ["lane"],
  ["mesos"],
  ["protocol", "config"],
  ["runtime"],
  ["fleet"],
  ["vault", "sidecar", "logrelay", "health"],
  ["hooks"],
  ["app"],
];

/** What the worker's core may import: it runs on engines other than Node. */
const CORE_FOLDER = "apps/worker/core/";
const CORE_IMPORTS: readonly string[] = ["@berth/recordio", "@berth/duration", "@berth/protocol", "@berth/mesos"];

/** Servers for tests; it stands outside the layers and only test code may import it. */
const TEST_LAYER = "test";

/** One broken rule: "libs/retry/index.ts:3: imports …". */
export type Violation = string;

/** Checks every import of the workspace; an empty answer is a clean workspace. */
export function checkBoundaries(root: string): Violation[] {
  const workspace = readWorkspace(root);
  const violations = workspace.packages.flatMap((one) => checkManifest(workspace, one));
  const used = new Map(workspace.packages.map((one) => [one.name, new Set<string>()]));
  const told = new Set<string>();
  for (const file of sourceFiles(root)) {
    const owner = workspace.packages.find(({ folder }) => file.startsWith(`${folder}/`));
    for (const one of importsOf(readFileSync(join(root, file), "utf8"))) {
      const problem = checkImport(workspace, owner, file, one);
      // The same import in ten files of a package is one mistake.
      const known = problem !== undefined && told.has(`${owner?.name}: ${problem}`);
      told.add(`${owner?.name}: ${problem}`);
      if (problem !== undefined && !known) violations.push(`${file}:${one.line}: ${problem}`);
      if (owner !== undefined) used.get(owner.name)?.add(packageName(one.specifier));
    }
  }
  for (const { name, folder, dependencies } of workspace.packages) {
    for (const dependency of dependencies) {
      if (!used.get(name)?.has(dependency)) violations.push(`${folder}/package.json: declares ${dependency}, which nothing in it imports`);
    }
  }
  return violations;
}

function sourceFiles(root: string): string[] {
  const exclude = (path: string): boolean => /(^|\/)(node_modules|dist|target|servers)$/.test(path);
  return globSync("{apps,libs,bench,tests,scripts}/**/*.{ts,mjs}", { cwd: root, exclude }).sort();
}

function checkManifest(workspace: Workspace, { folder, layer, dependencies }: WorkspacePackage): Violation[] {
  const violations: Violation[] = [];
  if (layer === undefined || (layer !== TEST_LAYER && rank(layer) < 0)) {
    violations.push(`${folder}/package.json: its nx tag "layer:${layer ?? "…"}" names no layer of scripts/boundaries/check.ts`);
  }
  if (workspace.locked.get(folder)?.join() !== dependencies.join()) {
    violations.push(`${folder}/package.json: package-lock.json is out of date, run: npm install --package-lock-only`);
  }
  return violations;
}

function checkImport(workspace: Workspace, owner: WorkspacePackage | undefined, file: string, { specifier }: Import): string | undefined {
  if (specifier.startsWith(".")) {
    const target = normalize(join(file, "..", specifier));
    const home = workspace.packages.find(({ folder }) => target.startsWith(`${folder}/`));
    return home === owner ? undefined : `imports ${specifier} from ${home?.name ?? "outside its package"}: import packages by their name`;
  }
  if (file.startsWith(CORE_FOLDER) && !isTestCode(file) && !CORE_IMPORTS.includes(specifier)) {
    return `imports ${specifier}: the worker's core must run without Node and may import only ${CORE_IMPORTS.join(", ")}`;
  }
  if (specifier.startsWith("node:")) return undefined;
  const name = packageName(specifier);
  const target = workspace.packages.find((one) => one.name === name);
  return target === undefined ? checkNpmImport(workspace, file, name) : checkWorkspaceImport(owner, target, file, specifier);
}

function checkNpmImport(workspace: Workspace, file: string, name: string): string | undefined {
  if (workspace.dependencies.has(name)) return undefined;
  if (workspace.devDependencies.has(name)) {
    return isTestCode(file)
      ? undefined
      : `imports ${name}, a devDependency: what runs on a host is in "dependencies" of the root's package.json`;
  }
  return `imports ${name}, which the root's package.json does not declare`;
}

function checkWorkspaceImport(
  owner: WorkspacePackage | undefined,
  target: WorkspacePackage,
  file: string,
  specifier: string,
): string | undefined {
  const subpath = `.${specifier.slice(target.name.length)}`;
  if (!target.exports.includes(subpath)) return `imports ${specifier}, which ${target.folder}/package.json does not export`;
  if (target.layer === TEST_LAYER) return isTestCode(file) ? undefined : `imports ${target.name} outside a test`;
  // Tests, scripts and benches of the workspace itself stand above everything.
  if (owner === undefined || owner === target) return undefined;
  if (!owner.dependencies.includes(target.name)) {
    return `imports ${target.name}, which ${owner.folder}/package.json does not declare (npm run format declares it)`;
  }
  if (owner.layer !== TEST_LAYER && rank(target.layer) >= rank(owner.layer)) {
    return `imports ${target.name} (layer ${target.layer}), which is not below layer ${owner.layer}`;
  }
  return undefined;
}

function rank(layer: string | undefined): number {
  return LAYERS.findIndex((row) => layer !== undefined && row.includes(layer));
}

function isTestCode(file: string): boolean {
  return /\.test\.ts$|test-kit\.ts$|^(tests|scripts|bench)\//.test(file);
}

function packageName(specifier: string): string {
  return specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");
}
