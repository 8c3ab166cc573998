import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { TaskIdentity } from "../../runtime.ts";
import { CONTAINER_LABELS, containerName, incumbentContainerName, ownedBy } from "./identity.ts";

const IDENTITY: TaskIdentity = { frameworkId: "f", executorId: "e", containerId: "c", taskId: "web/1 é" };

test("a container's name is readable, stable and different for every part of the identity", () => {
  const name = containerName(IDENTITY);

  assert.match(name, /^berth-web-1---[0-9a-f]{12}$/);
  assert.equal(containerName({ ...IDENTITY }), name);
  for (const part of ["frameworkId", "executorId", "containerId", "taskId"] as const) {
    assert.notEqual(containerName({ ...IDENTITY, [part]: `${IDENTITY[part]}x` }), name, part);
  }
  assert.notEqual(containerName({ ...IDENTITY, frameworkId: "fe", executorId: "" }), name);
});

test("any identity gives a name that Docker takes", () => {
  const text = fc.string({ unit: "binary", maxLength: 80 });
  fc.assert(
    fc.property(fc.record({ frameworkId: text, executorId: text, containerId: text, taskId: text }), (identity) => {
      const name = containerName(identity);

      assert.match(name, /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/);
      assert.ok(name.length <= "berth-".length + 40 + 1 + 12);
    }),
  );
});

test("the incumbent's name is a version 5 UUID of the task id in the all-zero namespace", () => {
  // python3 -c 'import uuid; print(uuid.uuid5(uuid.UUID(int=0), "web.1"))'
  assert.equal(incumbentContainerName("web.1"), "mesos-e11b254a-dbfd-5315-9c88-dc5edbecf006");
});

test("a container is ours only with all four ids in its labels", () => {
  const labels = {
    [CONTAINER_LABELS.frameworkId]: IDENTITY.frameworkId,
    [CONTAINER_LABELS.executorId]: IDENTITY.executorId,
    [CONTAINER_LABELS.containerId]: IDENTITY.containerId,
    [CONTAINER_LABELS.taskId]: IDENTITY.taskId,
    other: "label",
  };

  assert.ok(ownedBy(labels, IDENTITY));
  for (const label of Object.keys(labels).filter((key) => key.startsWith("berth."))) {
    assert.ok(!ownedBy({ ...labels, [label]: "other" }, IDENTITY), label);
    assert.ok(!ownedBy(Object.fromEntries(Object.entries(labels).filter(([key]) => key !== label)), IDENTITY), label);
  }
  assert.ok(!ownedBy({}, IDENTITY));
});
