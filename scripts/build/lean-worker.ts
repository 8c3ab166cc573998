import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { build as esbuild } from "esbuild";
import { projectRoot } from "../node-path.mjs";
import { lineTable } from "./line-table.ts";

/** The programs for the lean host, by their entries; apps/worker/lean/build.rs compiles each to bytecode. */
const BUNDLES = { worker: "apps/worker/host-lean/main.ts", probe: "apps/worker/conformance/probe-lean.ts" } as const;
const CRATE = join(projectRoot, "apps/worker/lean");
const TARGET = "x86_64-unknown-linux-gnu";

/** The built programs; the probe is for the conformance tests. */
export interface LeanWorker {
  worker: string;
  probe: string;
}

/** Why the lean worker cannot be built here, or undefined where it can. Then workers run on Node. */
export function leanWorkerObstacle(): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64")
    return `it is built for linux x64, and this is ${process.platform} ${process.arch}`;
  if (cargo() === undefined) return "there is no cargo (install Rust to build it)";
  return undefined;
}

/**
 * Builds the worker for QuickJS-ng: esbuild, then cargo. Nothing is done where nothing changed. Cargo's own messages go to
 * stderr (`quiet`: only its errors); throws where the build fails.
 */
export async function buildLeanWorker({ quiet = false } = {}): Promise<LeanWorker> {
  const program = cargo();
  if (program === undefined) throw new Error(`the lean worker cannot be built: ${leanWorkerObstacle()}`);
  await Promise.all(Object.entries(BUNDLES).map(([name, entry]) => bundle(name, entry)));
  const args = ["build", "--release", "--locked", ...(quiet ? ["--quiet"] : [])];
  const child = spawn(program, args, { cwd: CRATE, stdio: ["ignore", "inherit", "inherit"] });
  const code = await new Promise((resolve, reject) => child.on("error", reject).on("exit", resolve));
  if (code !== 0) throw new Error(`cargo ${args.join(" ")} in ${CRATE} failed, see above`);
  const built = (name: string): string => join(CRATE, "target", TARGET, "release", name);
  return { worker: built("berth-worker-lean"), probe: built("berth-worker-probe") };
}

/**
 * One ES module. Its lines stay, for the stack of an uncaught error is told in lines of the sources; the bytecode has no spaces and
 * comments anyhow. Names of variables and private members are kept in memory by the engine, so they are made short.
 */
async function bundle(name: string, entry: string): Promise<void> {
  const outfile = join(CRATE, `target/bundles/${name}.js`);
  const { outputFiles } = await esbuild({
    absWorkingDir: projectRoot,
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: "neutral",
    target: "es2022",
    format: "esm",
    minifySyntax: true,
    minifyIdentifiers: true,
    sourcemap: "external",
    sourcesContent: false,
    legalComments: "none",
    logLevel: "warning",
    write: false,
  });
  for (const { path, text } of outputFiles) {
    if (path === outfile) await writeIfChanged(path, text);
    else await writeIfChanged(outfile.replace(/\.js$/, ".lines"), lineTable(text, dirname(outfile), projectRoot));
  }
}

/** A file that stays as it is keeps its time, and cargo has nothing to do. */
async function writeIfChanged(path: string, text: string): Promise<void> {
  if (existsSync(path) && readFileSync(path, "utf8") === text) return;
  await mkdir(dirname(path), { recursive: true });
  const fresh = `${path}.${process.pid}`;
  await writeFile(fresh, text);
  await rename(fresh, path);
}

function cargo(): string | undefined {
  return [process.env.CARGO, "cargo", join(homedir(), ".cargo/bin/cargo")].find(
    (path) => path !== undefined && spawnSync(path, ["--version"], { stdio: "ignore" }).status === 0,
  );
}
