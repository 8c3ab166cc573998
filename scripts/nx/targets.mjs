// An nx plugin: gives every package of the workspace its targets, so that no package.json repeats them.
//   nx run-many -t typecheck      nx run-many -t test      nx affected -t test      nx graph
import { globSync } from "node:fs";
import { dirname } from "node:path";

const NODE = "node scripts/bootstrap.mjs";

/** @type {import("nx/src/project-graph/plugins/public-api.js").CreateNodesV2} */
export const createNodesV2 = [
  "{apps,libs}/*/package.json",
  (files, _options, { workspaceRoot }) =>
    files.map((file) => {
      const root = dirname(file);
      const options = { cwd: "{workspaceRoot}" };
      const hasTests = globSync(`${root}/**/*.test.ts`, { cwd: workspaceRoot }).length > 0;
      const targets = {
        typecheck: { command: `${NODE} typecheck ${root}`, options },
        ...(hasTests ? { test: { command: `${NODE} test ${root}/`, options } } : {}),
      };
      return [file, { projects: { [root]: { root, targets } } }];
    }),
];
