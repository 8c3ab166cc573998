import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseTaskInfo } from "@berth/mesos/task-info";
import { containerAge } from "./container-age.ts";
import { isInSidecar, sidecarHost } from "./service.ts";

describe("this host's key in Sidecar", () => {
  const cases: Array<[environment: Record<string, string>, configured: string, expected: string]> = [
    [{ TASK_HOST: "a", MESOS_HOSTNAME: "c" }, "b", "a"],
    [{ MESOS_HOSTNAME: "c" }, "b", "b"],
    [{ MESOS_HOSTNAME: "c" }, "", "c"],
    [{ TASK_HOST: "" }, "", "agent"],
  ];
  for (const [executorEnvironment, configured, expected] of cases) {
    test(`is ${expected} of ${JSON.stringify(executorEnvironment)} and the setting "${configured}"`, () => {
      assert.equal(sidecarHost({ executorEnvironment, agentHostname: "agent" }, configured), expected);
    });
  }
});

test("a task stays out of Sidecar by its label, and by nothing that is no false", () => {
  const withLabels = (...values: string[]): boolean =>
    isInSidecar(
      parseTaskInfo({
        task_id: { value: "t" },
        container: { type: "DOCKER", docker: { image: "i", parameters: values.map((value) => ({ key: "label", value })) } },
      }),
    );
  assert.equal(withLabels(), true);
  for (const no of ["false", "False", "FALSE", "f", "F", "0"]) assert.equal(withLabels(`SidecarDiscover=${no}`), false);
  for (const yes of ["true", "no", ""]) assert.equal(withLabels(`SidecarDiscover=${yes}`), true);
  assert.equal(withLabels("SidecarDiscover=false", "SidecarDiscover=true"), true, "the last one wins, as in Docker");
});

test("a container's age is the kernel's where its process is seen, else the wall clock's, and never negative", () => {
  const { pid } = process;
  const now = (): number => 1_000_000;
  assert.equal(containerAge({ state: "running", id: "no-such-container", pid, startedAt: 400_000, addresses: [] }, now), 600_000);
  assert.equal(containerAge({ state: "running", id: "no-such-container", pid, startedAt: 2_000_000, addresses: [] }, now), 0);
  // The root of the cgroups is in the path of every process: this one stands for a container's.
  const seen = containerAge({ state: "running", id: ":/", pid, startedAt: 0, addresses: [] }, now);
  assert.ok(Math.abs(seen - process.uptime() * 1000) < 60_000, String(seen));
});
