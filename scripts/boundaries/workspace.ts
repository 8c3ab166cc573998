import { globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** The part of a package.json that decides what may be imported. */
interface Manifest {
  name: string;
  workspaces?: string[];
  exports?: Record<string, string>;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  nx?: { tags?: string[] };
}

export interface WorkspacePackage {
  name: string;
  /** Relative to the workspace's root; empty for the root itself. */
  folder: string;
  /** Export subpaths: ".", "./task-info". */
  exports: string[];
  dependencies: string[];
  /** What follows "layer:" in its tag. */
  layer: string | undefined;
}

export interface Workspace {
  root: string;
  packages: WorkspacePackage[];
  /** npm packages that running code may use. */
  dependencies: Set<string>;
  /** npm packages for tests, scripts and benches. */
  devDependencies: Set<string>;
  /** From package-lock.json: what it believes each workspace package to depend on. */
  locked: Map<string, string[]>;
}

/** Reads every package.json of the workspace, and the lock file. */
export function readWorkspace(root: string): Workspace {
  const main = readJson<Manifest>(join(root, "package.json"));
  const lock = readJson<{ packages: Record<string, Manifest> }>(join(root, "package-lock.json"));
  const folders = (main.workspaces ?? []).flatMap((pattern) => globSync(`${pattern}/package.json`, { cwd: root }).map(dirname));
  return {
    root,
    packages: folders.sort().map((folder) => describe(folder, readJson<Manifest>(join(root, folder, "package.json")))),
    dependencies: new Set(Object.keys(main.dependencies ?? {})),
    devDependencies: new Set(Object.keys(main.devDependencies ?? {})),
    locked: new Map(folders.map((folder) => [folder, Object.keys(lock.packages[folder]?.dependencies ?? {}).sort()])),
  };
}

function describe(folder: string, manifest: Manifest): WorkspacePackage {
  return {
    name: manifest.name,
    folder,
    exports: Object.keys(manifest.exports ?? {}),
    dependencies: Object.keys(manifest.dependencies ?? {}).sort(),
    layer: manifest.nx?.tags?.find((tag) => tag.startsWith("layer:"))?.slice("layer:".length),
  };
}

function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, "utf8")) as T;
}
