// An nx plugin: gives every package of the workspace its targets, so that no package.json repeats them.
//   nx run-many -t typecheck      nx run-many -t test      nx affected -t test      nx graph
import { dirname } from "node:path";

const NODE = "node scripts/bootstrap.mjs";

/** @type {import("nx/src/project-graph/plugins/public-api.js").CreateNodesV2} */
export const createNodesV2 = [
  "{apps,libs}/*/package.json",
  (files) =>
    files.map((file) => {
      const root = dirname(file);
      const targets = {
        typecheck: { command: `${NODE} typecheck ${root}`, options: { cwd: "{workspaceRoot}" } },
        test: { command: `${NODE} test ${root}/`, options: { cwd: "{workspaceRoot}" } },
      };
      return [file, { projects: { [root]: { root, targets } } }];
    }),
];
