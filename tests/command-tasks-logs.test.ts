/** What command tasks write, as log events at Logstash's door (here rsyslog's). */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import type { TaskInfoInput } from "@berth/mesos/local-agent";
import { type LogSink, startLogSink, waitFor } from "@berth/test-harness";
import { commandStage, shellTask } from "./command-tasks-stage.ts";
import { state, stdoutOf, type TaskStage } from "./task-stage.ts";

let sink: LogSink;
let stage: TaskStage;
before(async () => {
  sink = await startLogSink();
  stage = await commandStage({
    ALLEGRO_EXECUTOR_SERVICELOG_LOGSTASH_ADDRESS: `127.0.0.1:${sink.port}`,
    ALLEGRO_EXECUTOR_SERVICELOG_IGNORE_KEYS: "secret",
    CLOUD_REGION: "eu",
    CLOUD_AVAILABILITY_ZONE: "eu-1a",
  });
});
after(async () => {
  await stage?.[Symbol.asyncDispose]();
  await sink?.stop();
});

function scraped(script: string, labels: Record<string, string>): TaskInfoInput {
  return shellTask(script, { labels: { labels: Object.entries(labels).map(([key, value]) => ({ key, value })) } });
}

async function events(executorId: string, count: number): Promise<Array<Record<string, unknown>>> {
  const own = async () => (await sink.events()).map(({ event }) => event).filter((event) => event["instance-id"] === executorId);
  await waitFor(async () => (await own()).length >= count, { what: `${count} events of ${executorId}` });
  return await own();
}

test("JSON lines become events with allegro's fields; the last line needs no line feed; the sandbox has all of it", async () => {
  const script = `echo '{"time":"2026-01-02T03:04:05Z","msg":"one","secret":"x","level":"WARN"}'; echo plain; printf '{"msg":"last"}'`;
  const task = scraped(script, { "log-scraping": "logstash", scId: "77" });
  const executor = stage.launch(task);
  await state(executor, task, "TASK_FINISHED");

  const [first = {}, last = {}] = await events(executor.executorId, 2);

  const { srchost, scid, ...rest } = first;
  assert.deepEqual(rest, {
    "@timestamp": "2026-01-02T03:04:05Z",
    "@version": 1,
    message: "one",
    level: "WARN",
    "instance-id": executor.executorId,
    region: "eu",
    zone: "eu-1a",
  });
  assert.equal(scid, 77);
  assert.equal(typeof srchost, "string");
  assert.equal(last.message, "last");
  assert.match(stdoutOf(executor), /^plain$/m);
  await executor.exited;
});

test("logfmt, and with log-scraping-all what is no event", async () => {
  const task = scraped(`echo 'msg="hello there" status=200 ratio=1.50'; echo 'no event'`, {
    "log-scraping": "logfmt",
    "log-scraping-all": "yes",
  });
  const executor = stage.launch(task);
  await state(executor, task, "TASK_FINISHED");

  const [first = {}, second = {}] = await events(executor.executorId, 2);

  assert.deepEqual([first.message, first.status, first.ratio], ["hello there", 200, 1.5]);
  assert.deepEqual([second.message, second.logger], ["no event", "invalid-format"]);
  await executor.exited;
});

test("without the label nothing is sent", async () => {
  const task = shellTask(`echo '{"msg":"private"}'`);
  const executor = stage.launch(task);
  await state(executor, task, "TASK_FINISHED");
  await executor.exited;

  assert.equal(
    (await sink.events()).some(({ event }) => event.message === "private"),
    false,
  );
});

test("what is written while the supervisor is away is sent by the next one", async () => {
  const folder = stage.folder.path;
  const script = `echo '{"msg":"before"}'; while [ ! -e ${folder}/away ]; do sleep 0.1; done; for i in 1 2 3 4 5; do echo "{\\"msg\\":\\"away $i\\"}"; done; touch ${folder}/said; while [ ! -e ${folder}/back ]; do sleep 0.1; done; echo '{"msg":"after"}'`;
  const task = scraped(script, { "log-scraping": "logstash" });
  const executor = stage.launch(task);
  await state(executor, task, "TASK_RUNNING");
  await events(executor.executorId, 1);

  await stage.supervisor.kill();
  writeFileSync(`${folder}/away`, "");
  await waitFor(() => stdoutOf(executor).includes("away 5"), { what: "the lines" });
  await stage.startSupervisor();
  writeFileSync(`${folder}/back`, "");
  await state(executor, task, "TASK_FINISHED");

  const distinct = async () => [...new Set((await events(executor.executorId, 7)).map(({ message }) => message))];
  await waitFor(async () => (await distinct()).length >= 7, { what: "the last event" });
  // What was sent and not yet noted may come twice.
  assert.deepEqual(await distinct(), ["before", "away 1", "away 2", "away 3", "away 4", "away 5", "after"]);
  await executor.exited;
});
