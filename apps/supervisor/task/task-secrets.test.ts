import assert from "node:assert/strict";
import { test } from "node:test";
import { parseTaskInfo } from "@berth/mesos/task-info";
import { secretValues, withoutSecrets } from "./task-secrets.ts";

const data = Buffer.from("hunter2-hunter2").toString("base64");
const task = parseTaskInfo({
  task_id: { value: "t" },
  command: {
    value: "true",
    environment: {
      variables: [
        { name: "PLAIN", value: "x" },
        { name: "S", type: "SECRET", secret: { type: "VALUE", value: { data } } },
        { name: "R", type: "SECRET", secret: { type: "REFERENCE", reference: { name: "db" } } },
      ],
    },
  },
});

test("secrets of a TaskInfo: values are found decoded, references are none", () => {
  assert.deepEqual(secretValues(task), [{ name: "S", value: "hunter2-hunter2" }]);
});

test("secrets of a TaskInfo: what is shown has no value, and everything else", () => {
  const shown = JSON.stringify(withoutSecrets(task));

  assert.equal(shown.includes(data), false);
  assert.match(shown, /"PLAIN".*"x"/);
  assert.match(shown, /"reference":\{"name":"db"/);
});
