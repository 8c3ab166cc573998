/** What an operator sees of log targets: a container whose lines go to a real receiver and to one that is away, asked by the admin socket. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { TaskInspection, type TaskLogView } from "@berth/admin-api";
import { program } from "@berth/cli/programs";
import { type Dockerd, freePort, type LogSink, sharedDockerd, startLogSink, waitFor } from "@berth/test-harness";
import { dockerTask } from "./docker-tasks.ts";
import { state, TaskStage } from "./task-stage.ts";

let docker: Dockerd;
let sink: LogSink;
let stage: TaskStage;

before(async () => {
  docker = await sharedDockerd();
  sink = await startLogSink();
  stage = await TaskStage.start({
    DOCKER_HOST: docker.host,
    EXECUTOR_SIDECAR: "false",
    EXECUTOR_SERVICELOG_LOGSTASH_ADDRESS: `127.0.0.1:${sink.port}`,
    EXECUTOR_RELAY_SYSLOG: "true",
    EXECUTOR_SYSLOG_FORMAT: "rfc5424-tls",
    EXECUTOR_SYSLOG_ADDR: `127.0.0.1:${await freePort()}`,
    EXECUTOR_SYSLOG_CA: "/nowhere/no-ca.pem",
  });
});
after(async () => {
  await stage?.[Symbol.asyncDispose]();
  await sink?.stop();
  await docker?.stop();
});

/** The value of one sample, or undefined. */
async function metric(sample: string): Promise<number | undefined> {
  const line = (await stage.supervisor.admin.text("/metrics")).split("\n").find((text) => text.startsWith(`${sample} `));
  return line === undefined ? undefined : Number(line.slice(sample.length + 1));
}

test("inspect tells what each target of a container's output got, metrics count it beyond the container's end", async () => {
  const script = `trap 'exit 0' TERM; echo '{"msg":"one","n":12345678901234567890}'; echo plain; printf '{"msg":"last"}'; while :; do sleep 0.1; done`;
  const labels = [
    { key: "log-scraping", value: "logstash" },
    { key: "scId", value: "9" },
  ];
  const task = dockerTask(script, { docker: { network: "BRIDGE" }, labels: { labels } });
  const id = task.task_id.value;
  const executor = stage.launch(task);
  const inspect = async (): Promise<TaskLogView | null> =>
    (await stage.supervisor.admin.ask(TaskInspection, "GET", `/v1/tasks/${id}`)).value.logs;
  await state(executor, task, "TASK_RUNNING", 60_000);
  await waitFor(async () => (await inspect())?.targets.find(({ type }) => type === "logstash")?.sent === 1);

  const logs = await inspect();
  const [syslog, logstash] = logs?.targets ?? [];
  assert.equal(syslog?.type, "syslog");
  assert.match(syslog?.problem ?? "", /^tls .*: the CA file .*no-ca\.pem cannot be read: ENOENT$/);
  assert.deepEqual(logstash?.dropped, { "no event": 1 });
  const { stdout } = await promisify(execFile)(program("berth"), ["--socket", stage.supervisor.admin.socketPath, "inspect", id]);
  assert.match(stdout, /^ +logstash .* 1 no event +-$/m);
  assert.match(stdout, /^ +syslog .* - +tls .*no-ca\.pem cannot be read: ENOENT$/m);
  assert.equal(await metric('berth_log_lines_sent_total{target="logstash"}'), 1);
  assert.equal(await metric('berth_log_lines_dropped_total{target="logstash",reason="no event"}'), 1);
  assert.equal(await metric("berth_log_lines_read_total"), 2);

  executor.kill(id);
  await executor.exited;

  // The line that has no end counts when the container has ended; what the receiver that is away never got waits for it a while.
  assert.equal(await metric('berth_log_lines_sent_total{target="logstash"}'), 2);
  assert.equal(await metric('berth_log_lines_sent_total{target="syslog"}'), 0);
  assert.doesNotMatch(await stage.supervisor.admin.text("/metrics"), /dropped_total\{target="syslog"/);
  assert.ok(((await metric("berth_log_queued_bytes")) ?? 0) > 100);
  const events = (await sink.events()).map(({ event }) => event).filter((event) => event["instance-id"] === executor.executorId);
  assert.deepEqual(
    events.map(({ message, scid }) => [message, scid]),
    [
      ["one", 9],
      ["last", 9],
    ],
  );
});
