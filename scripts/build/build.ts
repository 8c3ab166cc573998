import { chmod, copyFile, cp, link, mkdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type BuildOptions, type BuildResult, build as esbuild } from "esbuild";
import { projectRoot } from "../node-path.mjs";
import { buildLeanWorker, leanWorkerObstacle } from "./lean-worker.ts";
import { koffiBeside, threadFileName, threadUrls, withoutUnusedDocker } from "./plugins.ts";

/** What a build made. */
export interface Build {
  folder: string;
  /** Bytes by path relative to the folder. */
  files: Map<string, number>;
  /** Why there is no lean worker in it, and workers run on Node; undefined where there is one. */
  withoutLeanWorker: string | undefined;
}

const COMMON: BuildOptions = {
  absWorkingDir: projectRoot,
  bundle: true,
  platform: "node",
  target: "node24",
  format: "esm",
  legalComments: "none",
  logLevel: "warning",
  metafile: true,
  // Optional native helpers that packages try to load and do without.
  external: ["*.node", "cpu-features", "@napi-rs/nice"],
};

/** CommonJS packages inside an ES module miss these three. */
const COMMONJS_NAMES = `import { createRequire as __createRequire } from "node:module";
const require = __createRequire(import.meta.url);
const __filename = import.meta.filename;
const __dirname = import.meta.dirname;`;

/**
 * Builds an installation of Berth into `folder`:
 *
 *     bin/         the launchers, the same as in a checkout
 *     worker/      one small file, a host loads it once per task; and beside it, where cargo is installed, the same for QuickJS-ng
 *     supervisor/  main.mjs, one file per thread, piscina's worker.js (a thread starts from a file, not from a bundle), koffi.node
 *     cli/         one file
 *     deploy/      the systemd units
 *     node         the Node that runs them
 *
 * The folder appears whole or not at all: it is built beside and renamed.
 */
export async function build(folder: string): Promise<Build> {
  const fresh = `${folder}.new-${process.pid}`;
  await rm(fresh, { recursive: true, force: true });
  await mkdir(fresh, { recursive: true });
  try {
    const files = new Map<string, number>();
    const bundle = async (options: BuildOptions): Promise<void> => {
      const { metafile } = await runEsbuild(options);
      for (const [path, { bytes }] of Object.entries(metafile?.outputs ?? {}))
        files.set(join(projectRoot, path).slice(fresh.length + 1), bytes);
    };
    await bundle({
      entryPoints: ["apps/worker/host-node/main.ts"],
      outfile: join(fresh, "worker/berth-worker.cjs"),
      // A program that is an ES module costs every worker a megabyte for Node's loader of them.
      format: "cjs",
      minify: true,
      keepNames: true,
    });
    await bundle({
      entryPoints: ["apps/cli/main.ts"],
      outfile: join(fresh, "cli/main.mjs"),
      banner: { js: COMMONJS_NAMES },
      plugins: [refuseThreads],
    });
    await buildDaemon("apps/supervisor/main.ts", join(fresh, "supervisor"), bundle);
    const withoutLeanWorker = leanWorkerObstacle();
    if (withoutLeanWorker === undefined) {
      const target = "worker/berth-worker-lean";
      await copyFile((await buildLeanWorker({ quiet: true })).worker, join(fresh, target));
      files.set(target, (await stat(join(fresh, target))).size);
    }
    await cp(join(projectRoot, "bin"), join(fresh, "bin"), { recursive: true });
    await cp(join(projectRoot, "deploy"), join(fresh, "deploy"), { recursive: true });
    await cp(join(projectRoot, "LICENSE"), join(fresh, "LICENSE"));
    await copyNode(join(fresh, "node"));
    await rm(folder, { recursive: true, force: true });
    await rename(fresh, folder);
    return { folder, files, withoutLeanWorker };
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

function runEsbuild(options: BuildOptions): Promise<BuildResult> {
  return esbuild({ ...COMMON, ...options });
}

/** The command line's process has no threads; a library that starts one does not belong into it. */
const refuseThreads = threadUrls((entry) => {
  throw new Error(`${entry} is reached from the command line, which is one file`);
});

/** A program with worker threads: main.mjs, and each thread that it or one of its threads names, all in one folder. */
export async function buildDaemon(
  main: string,
  folder: string,
  bundle: (options: BuildOptions) => Promise<unknown> = runEsbuild,
): Promise<void> {
  const waiting = [main];
  const built = new Map<string, string>();
  for (const entry of waiting) {
    const name = entry === waiting[0] ? "main.mjs" : threadFileName(entry);
    if (built.has(name) && built.get(name) !== entry) throw new Error(`two threads are called ${name}: ${built.get(name)} and ${entry}`);
    if (built.has(name)) continue;
    built.set(name, entry);
    const plugins = [threadUrls((thread) => waiting.push(thread)), withoutUnusedDocker(), koffiBeside(folder)];
    await bundle({ entryPoints: [entry], outfile: join(folder, name), banner: { js: COMMONJS_NAMES }, sourcemap: "linked", plugins });
  }
  // piscina starts threads from a file of its own, which it looks for beside itself.
  await bundle({ entryPoints: ["./node_modules/piscina/dist/worker.js"], outfile: join(folder, "worker.js"), format: "cjs" });
  await writeFile(join(folder, "package.json"), '{ "type": "commonjs" }\n');
}

/** A hard link where that is possible: the file is 120 MB. */
async function copyNode(target: string): Promise<void> {
  await link(process.execPath, target).catch(() => cp(process.execPath, target));
  await chmod(target, 0o755);
}
