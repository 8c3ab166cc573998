import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseTaskInfo, type TaskInfo } from "@berth/mesos/task-info";
import { type ProcessPlan, planProcess } from "./process-plan.ts";

const identity = { frameworkId: "f", executorId: "e", containerId: "c", taskId: "t" };

function plan(task: Record<string, unknown>): ProcessPlan {
  const parsed = parseTaskInfo({ task_id: { value: "t" }, ...task }) as TaskInfo;
  return planProcess(parsed, identity, { sandbox: "/s", path: "/bin", process: { pid: 1 } });
}

function limits(...rlimits: object[]): Record<string, unknown> {
  return { command: { value: "true" }, container: { type: "MESOS", rlimit_info: { rlimits } } };
}

describe("the command", () => {
  const cases: Array<[what: string, command: object, argv: string[]]> = [
    ["a shell's, whose arguments Mesos does not look at either", { value: "echo $1", arguments: ["a"] }, ["/bin/sh", "-c", "echo $1"]],
    ["a program without arguments", { shell: false, value: "/bin/x" }, ["/bin/x"]],
    ["a program with its own name in front", { shell: false, value: "/bin/x", arguments: ["x", "", "b c"] }, ["/bin/x", "", "b c"]],
  ];
  for (const [what, command, argv] of cases) {
    test(`of ${what}`, () => {
      assert.deepEqual(plan({ command }).argv, argv);
    });
  }
});

describe("the environment", () => {
  const named = (...entries: Array<[name: string, value?: string]>) => ({
    variables: entries.map(([name, value]) => ({ name, ...(value === undefined ? {} : { value }) })),
  });

  test("of a name given twice has the last value; values may be empty, missing, and of many lines", () => {
    const environment = named(["A", "1"], ["A", "2"], ["EMPTY", ""], ["NONE"], ["PEM", "a=b\r\nc\n"]);

    const { A, EMPTY, NONE, PEM } = plan({ command: { value: "true", environment } }).environment;

    assert.deepEqual({ A, EMPTY, NONE, PEM }, { A: "2", EMPTY: "", NONE: "", PEM: "a=b\r\nc\n" });
  });

  test("names what of the executor's was withheld", () => {
    const command = { value: "true", environment: named(["VAULT_TOKEN", "s"], ["APP", "1"]) };

    const { withheld, environment } = plan({ command: { value: "true" }, executor: { executor_id: { value: "e" }, command } });

    assert.deepEqual([withheld, environment.APP, environment.VAULT_TOKEN], [["VAULT_TOKEN"], "1", undefined]);
  });
});

describe("limits", () => {
  test("without a number are none, and so is what stands for infinity", () => {
    const infinite = "18446744073709551615";

    const { rlimits } = plan(limits({ type: "RLMT_CORE" }, { type: "RLMT_NOFILE", soft: 100, hard: infinite }));

    assert.deepEqual(rlimits, [
      { type: "RLMT_CORE", soft: null, hard: null },
      { type: "RLMT_NOFILE", soft: 100, hard: null },
    ]);
  });
});

describe("a task is invalid", () => {
  const value = { value: "true" };
  const cases: Array<[what: string, task: Record<string, unknown>, message: RegExp]> = [
    ["without a command's value", { command: {} }, /command\.value is missing/],
    ["with a NUL in its command", { command: { shell: false, value: "x", arguments: ["x", "a\0b"] } }, /NUL/],
    [
      "with a variable's name that is none",
      { command: { ...value, environment: { variables: [{ name: "A=B", value: "c" }] } } },
      /"A=B" cannot be the name of a variable/,
    ],
    [
      "with an image for Mesos's own containerizer",
      { command: value, container: { type: "MESOS", mesos: { image: { type: "DOCKER", docker: { name: "x" } } } } },
      /container\.mesos\.image/,
    ],
    ["with a limit that nobody knows", limits({ type: "RLMT_FOO", soft: 1, hard: 1 }), /RLMT_FOO is no limit/],
    ["with one half of a limit", limits({ type: "RLMT_CPU", soft: 1 }), /RLMT_CPU needs both/],
    ["with a soft limit above the hard one", limits({ type: "RLMT_CPU", soft: 2, hard: 1 }), /soft limit above its hard limit/],
  ];
  for (const [what, task, message] of cases) {
    test(what, () => {
      assert.throws(() => plan(task), message);
      assert.throws(() => plan(task), { state: "TASK_ERROR" });
    });
  }
});

test("what a process does not get of its TaskInfo is told", () => {
  const container = { type: "MESOS", volumes: [{ container_path: "/data", mode: "RW" }], linux_info: { share_pid_namespace: true } };

  const { warnings } = plan({ command: { value: "true", uris: [{ value: "http://x/app.tgz" }] }, container });

  assert.deepEqual(warnings, [
    "container.volumes, container.linux_info: not applied, the task is a process on the host and not a container",
    "command.uris: not fetched; the agent fetches those of the executor's command",
  ]);
  assert.deepEqual(plan({ command: { value: "true" } }).warnings, []);
});
