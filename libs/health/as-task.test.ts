import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { asTask, type Surroundings } from "./as-task.ts";
import { isRoot } from "./test-kit.ts";

const task: Surroundings = {
  uid: 65534,
  gid: 65534,
  groups: [],
  directory: "/usr",
  environment: { PATH: process.env.PATH ?? "", LD_DEBUG_OUTPUT: "/dev/null", OWN: "a b" },
  namespaces: [],
};

const cases: Array<[what: string, surroundings: Surroundings, groups: string]> = [
  ["its group alone", task, "65534"],
  ["its group among its groups", { ...task, groups: [65534] }, "65534"],
  ["further groups", { ...task, groups: [65534, 1, 2] }, "65534 1 2"],
  ["only a further group", { ...task, groups: [1] }, "65534 1"],
];
for (const [what, surroundings, groups] of cases) {
  test(`a command runs as the task's user with ${what}, and with its whole environment`, { skip: isRoot ? false : "needs root" }, () => {
    const { argv, options } = asTask(surroundings, ["sh", "-c", 'echo "$(id -u) $(id -G); $LD_DEBUG_OUTPUT $OWN $ADDED; $(pwd)"'], {
      ADDED: "c",
    });

    const output = execFileSync(argv[0] as string, argv.slice(1), { ...options, encoding: "utf8" });

    assert.equal(output, `65534 ${groups}; /dev/null a b c; /usr\n`);
  });
}

test("what runs before the command is the host's program, and sees nothing that makes it load the task's code", () => {
  const environment = { PATH: "/tmp/task", LD_PRELOAD: "/tmp/task.so", GLIBC_TUNABLES: "x", OWN: "1" };
  for (const different of [{ namespaces: ["--net=/x"] }, { groups: [7] }]) {
    const { argv, options } = asTask({ ...task, environment, ...different }, ["sh"], {});

    assert.match(argv[0] as string, /^\/(usr\/)?(local\/)?s?bin\/(nsenter|setpriv)$/);
    assert.deepEqual(options.env, { PATH: "/tmp/task", OWN: "1" });
    assert.deepEqual(argv.slice(argv.indexOf("--") + 1), ["env", "LD_PRELOAD=/tmp/task.so", "GLIBC_TUNABLES=x", "sh"]);
  }
});
