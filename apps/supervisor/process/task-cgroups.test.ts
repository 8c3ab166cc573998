/** Which cgroups a worker may have killed. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { namespaceNumber, taskCgroupName } from "@berth/protocol";
import { ownPidNamespace } from "../executor/process-life.ts";
import { ownCgroups } from "./task-cgroups.ts";

const pidNamespace = namespaceNumber(ownPidNamespace() ?? "") ?? "";
const owner = { pid: 4711, startTime: "123456", pidNamespace };
const worker = { pid: 4711, startTime: "123456", pidNamespace: `pid:[${pidNamespace}]` };
const PARENT = "/sys/fs/cgroup/freezer/mesos/c-1";
const NAME = taskCgroupName("web.1", owner, 1);

test("what a worker made for the task is believed, in any hierarchy and with any number", () => {
  const claimed = [`${PARENT}/${NAME}`, `/sys/fs/cgroup/${NAME}`, `/sys/fs/cgroup/unified/a.slice/${taskCgroupName("web.1", owner, 23)}`];

  assert.deepEqual(ownCgroups(claimed, "web.1", worker), claimed);
});

test("a task id of any length and any characters makes a name that is known again", () => {
  for (const taskId of ["a/../../b", "ünïcode task", `${"x".repeat(300)}/y`, ".", "a.1-2-3-4", "new\nline"]) {
    const path = `${PARENT}/${taskCgroupName(taskId, owner, 7)}`;

    assert.ok(path.length - PARENT.length <= 256 && path.slice(PARENT.length + 1).match(/^[\w.-]+$/), path);
    assert.deepEqual(ownCgroups([path], taskId, worker), [path]);
  }
});

describe("nothing else is believed:", () => {
  const cases: Array<[what: string, path: string]> = [
    ["the executor's own cgroup", PARENT],
    ["another task's", `${PARENT}/${taskCgroupName("web.2", owner, 1)}`],
    ["another worker's", `${PARENT}/${taskCgroupName("web.1", { ...owner, pid: 4712 }, 1)}`],
    ["an earlier worker's with the same pid", `${PARENT}/${taskCgroupName("web.1", { ...owner, startTime: "123455" }, 1)}`],
    ["one of another pid namespace", `${PARENT}/${taskCgroupName("web.1", { ...owner, pidNamespace: "1" }, 1)}`],
    ["what is below it", `${PARENT}/${NAME}/inner`],
    ["a way out of it", `${PARENT}/${NAME}/../../other`],
    ["a way out of the cgroup filesystem and in again", `/sys/fs/cgroup/../cgroup/${NAME}`],
    ["a place outside of the cgroup filesystem", `/tmp/${NAME}`],
    ["a place beside it", `/sys/fs/cgroup-else/${NAME}`],
    ["a relative path", NAME],
    ["a slash at the end", `${PARENT}/${NAME}/`],
    ["the root of all", "/sys/fs/cgroup/"],
    ["nothing", ""],
  ];
  for (const [what, path] of cases) test(what, () => assert.deepEqual(ownCgroups([path], "web.1", worker), []));

  test("of a worker that does not tell its start time", () => {
    assert.deepEqual(ownCgroups([`${PARENT}/${NAME}`], "web.1", { pid: 4711 }), []);
  });
});
