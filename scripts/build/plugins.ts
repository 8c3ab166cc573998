import { existsSync } from "node:fs";
import { copyFile, mkdir, readFile } from "node:fs/promises";
import { basename, dirname, join, relative, resolve } from "node:path";
import type { Plugin } from "esbuild";
import { projectRoot } from "../node-path.mjs";

/** Any file that a module of ours names to load at run time. */
const THREAD_URL = /new URL\(\s*"(\.{1,2}\/[^"\n]+\.ts)"\s*,\s*import\.meta\.url\s*,?\s*\)/g;

/** The built file's name for a thread's entry: libs/vault/vault.thread.ts becomes vault.thread.mjs beside main.mjs. */
export function threadFileName(entry: string): string {
  return basename(entry).replace(/\.ts$/, ".mjs");
}

/**
 * A library names its thread as `new URL("./x.thread.ts", import.meta.url)`. In a bundle that file is gone and import.meta.url is
 * the bundle's: this makes it the built thread beside the bundle. `onThread` is told each entry met.
 */
export function threadUrls(onThread: (entry: string) => void): Plugin {
  return {
    name: "thread-urls",
    setup(build) {
      build.onLoad({ filter: /\.ts$/ }, async ({ path }) => {
        if (path.includes("/node_modules/")) return undefined;
        const source = await readFile(path, "utf8");
        const errors: { text: string; location: { file: string } }[] = [];
        const contents = source.replaceAll(THREAD_URL, (text, target: string) => {
          const entry = resolve(dirname(path), target);
          if (!entry.endsWith(".thread.ts")) {
            errors.push({
              text: `${target} is loaded at run time and would be missing in the build`,
              location: { file: relative(projectRoot, path) },
            });
            return text;
          }
          onThread(entry);
          return `new URL("./${threadFileName(entry)}", import.meta.url)`;
        });
        return { contents, loader: "ts", errors };
      });
    },
  };
}

/**
 * dockerode brings an SSH client and a BuildKit session over gRPC, a third of a megabyte of code and 10 MB of heap that a
 * supervisor on the engine's own host never calls.
 */
export function withoutUnusedDocker(): Plugin {
  const stub = (what: string): string =>
    `module.exports = new Proxy({}, { get() { throw new Error("${what} is not part of Berth's build"); } });`;
  return {
    name: "without-unused-docker",
    setup(build) {
      build.onLoad({ filter: /\/docker-modem\/lib\/ssh\.js$/ }, () => ({
        contents: `module.exports = () => { throw new Error("Berth speaks to a Docker engine by unix socket or TCP; ssh:// is not supported"); };`,
      }));
      build.onLoad({ filter: /\/dockerode\/lib\/(session|buildkit)\.js$/ }, () => ({ contents: stub("BuildKit") }));
    },
  };
}

/**
 * koffi looks for its binary in the folders of its package. In a bundle it is a file beside the bundle: the one for the platform and
 * the C library of the Node that builds, which is also the Node of the installation.
 */
export function koffiBeside(folder: string): Plugin {
  return {
    name: "koffi-beside",
    setup(build) {
      build.onLoad({ filter: /\/node_modules\/koffi\/index\.js$/ }, async () => {
        const { platform, arch } = process;
        const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
        const system = platform === "linux" && header.glibcVersionRuntime === undefined ? "musl" : platform;
        const binary = join(projectRoot, `node_modules/@koromix/koffi-${platform}-${arch}/${system}_${arch}/koffi.node`);
        if (!existsSync(binary)) return { contents: `throw new Error("koffi has no binary for ${system} ${arch}");` };
        await mkdir(folder, { recursive: true });
        await copyFile(binary, join(folder, "koffi.node"));
        return { contents: `export default require("./koffi.node");` };
      });
    },
  };
}
