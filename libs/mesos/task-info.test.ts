import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type CapturedEvent, readCaptures } from "./captures/read.ts";
import { TaskFailure } from "./task-failure.ts";
import { label, parseTaskInfo, scalarResource } from "./task-info.ts";

const SECRET = "hunter2-do-not-repeat";

function refusal(task: unknown): TaskFailure {
  try {
    parseTaskInfo(task);
  } catch (error) {
    assert.ok(TaskFailure.is(error));
    assert.equal(error.state, "TASK_ERROR");
    assert.equal(error.reason, "REASON_TASK_INVALID");
    return error;
  }
  throw new assert.AssertionError({ message: "the TaskInfo was taken" });
}

describe("parseTaskInfo", () => {
  for (const [index, { capture, event }] of readCaptures<CapturedEvent>("events").entries()) {
    const launch = event as { launch?: { task: unknown }; launch_group?: { task_group: { tasks: unknown[] } } };
    for (const task of launch.launch_group?.task_group.tasks ?? (launch.launch === undefined ? [] : [launch.launch.task])) {
      test(`takes the recorded ${event.type} of ${capture} (event ${index})`, () => {
        const parsed = parseTaskInfo(task);
        assert.equal(parsed.task_id.value, (task as { task_id: { value: string } }).task_id.value);
        assert.notEqual(parsed.executor?.command, undefined);
      });
    }
  }

  test("reads infinite limits, default health checks, labels and resources of the recorded task", () => {
    const launch = readCaptures<CapturedEvent>("events").find(({ capture, event }) => capture === "basic" && event.type === "LAUNCH");
    assert.ok(launch !== undefined);
    const task = parseTaskInfo((launch.event.launch as { task: unknown }).task);
    assert.equal(task.limits?.cpus?.value, Number.POSITIVE_INFINITY);
    assert.equal(task.health_check?.consecutive_failures, 3);
    assert.equal(label(task, "A"), "1");
    assert.equal(label(task, "B"), "");
    assert.equal(scalarResource(task, "mem"), 32);
    assert.equal(task.kill_policy?.grace_period?.nanoseconds, 7e9);
  });

  const image = { image: "busybox" };
  const cases: Array<[string, Record<string, unknown>, RegExp[]]> = [
    ["an unknown container type", { container: { type: SECRET } }, [/container\.type/]],
    ["an unknown network", { container: { type: "DOCKER", docker: { ...image, network: SECRET } } }, [/container\.docker\.network/]],
    [
      "a port out of range",
      { container: { type: "DOCKER", docker: { ...image, port_mappings: [{ host_port: 65536, container_port: -1 }] } } },
      [/port_mappings\.0\.host_port/, /port_mappings\.0\.container_port/],
    ],
    ["a health check without its member", { health_check: { type: "HTTP" } }, [/health_check/, /'http'/]],
    ["a check without its member", { check: { type: "COMMAND" } }, [/check/, /'command'/]],
    [
      "a path that does not begin with a slash",
      { health_check: { type: "HTTP", http: { port: 80, path: SECRET } } },
      [/health_check\.http\.path/],
    ],
    ["a negative duration", { health_check: { type: "TCP", tcp: { port: 80 }, delay_seconds: -1 } }, [/health_check\.delay_seconds/]],
    ["a value of the wrong type", { command: { value: 5, arguments: [SECRET, 7] } }, [/command\.value/, /command\.arguments\.1/]],
  ];
  for (const [name, fields, paths] of cases) {
    test(`refuses ${name}, naming the place and never the value`, () => {
      const { message } = refusal({ task_id: { value: "t" }, ...fields });
      for (const path of paths) assert.match(message, path);
      assert.ok(!message.includes(SECRET), message);
    });
  }

  test("lists every mistake at once", () => {
    const { message } = refusal({
      task_id: {},
      container: { type: "X" },
      max_completion_time: { nanoseconds: -1 },
      resources: [{ name: 3 }],
    });
    for (const path of ["task_id.value", "container.type", "max_completion_time.nanoseconds", "resources.0.name"]) {
      assert.ok(message.includes(path), `${path} is not in: ${message}`);
    }
  });

  for (const value of [undefined, null, "text", 5, []]) {
    test(`refuses ${JSON.stringify(value)}`, () => assert.match(refusal(value).message, /TaskInfo/));
  }
});
