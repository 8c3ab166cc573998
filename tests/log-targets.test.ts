/** What an operator sees of log targets: a container whose lines go to a real receiver and to one that is away, asked by the admin socket. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { TaskInspection, type TaskLogView } from "@berth/admin-api";
import { LocalSupervisor } from "@berth/cli/local-supervisor";
import { program } from "@berth/cli/programs";
import { LocalAgent, type TaskInfoInput } from "@berth/mesos/local-agent";
import {
  BUSYBOX_IMAGE,
  type Dockerd,
  freePort,
  type LogSink,
  sharedDockerd,
  startLogSink,
  type TempDir,
  tempDir,
  waitFor,
} from "@berth/test-harness";

let docker: Dockerd;
let folder: TempDir;
let sink: LogSink;
let supervisor: LocalSupervisor;
let agent: LocalAgent;
let nobody: string;

before(async () => {
  docker = await sharedDockerd();
  folder = await tempDir("lt");
  sink = await startLogSink();
  nobody = `127.0.0.1:${await freePort()}`;
  const environment = {
    DOCKER_HOST: docker.host,
    EXECUTOR_SIDECAR: "false",
    EXECUTOR_SERVICELOG_LOGSTASH_ADDRESS: `127.0.0.1:${sink.port}`,
    EXECUTOR_RELAY_SYSLOG: "true",
    EXECUTOR_SYSLOG_FORMAT: "rfc5424-tls",
    EXECUTOR_SYSLOG_ADDR: nobody,
    EXECUTOR_SYSLOG_CA: `${folder.path}/no-ca.pem`,
  };
  supervisor = await LocalSupervisor.start({ directory: folder.path, environment, logFile: `${folder.path}/berthd.log` });
  agent = await LocalAgent.start({ workDirectory: `${folder.path}/agent`, checkpoint: true });
});
after(async () => {
  await agent?.stop();
  await supervisor?.stop();
  await sink?.stop();
  await docker?.stop();
  await folder?.remove();
});

/** The value of one sample, or undefined. */
async function metric(sample: string): Promise<number | undefined> {
  const line = (await supervisor.admin.text("/metrics")).split("\n").find((text) => text.startsWith(`${sample} `));
  return line === undefined ? undefined : Number(line.slice(sample.length + 1));
}

test("inspect tells what each target of a container's output got, metrics count it beyond the container's end", async () => {
  const executorId = `x-${randomBytes(5).toString("hex")}`;
  const script = `trap 'exit 0' TERM; echo '{"msg":"one","n":12345678901234567890}'; echo plain; printf '{"msg":"last"}'; while :; do sleep 0.1; done`;
  const task: TaskInfoInput = {
    task_id: { value: `t-${randomBytes(5).toString("hex")}` },
    container: { type: "DOCKER", docker: { image: BUSYBOX_IMAGE, network: "BRIDGE" } },
    command: { value: script },
    labels: {
      labels: [
        { key: "log-scraping", value: "logstash" },
        { key: "scId", value: "9" },
      ],
    },
  };
  const id = task.task_id.value;
  const executor = agent.startExecutor({
    executorId,
    command: `exec ${program("berth-worker")}`,
    environment: { PATH: process.env.PATH ?? "", BERTH_SOCKET: supervisor.socket },
  });
  executor.launch(task);
  const inspect = async (): Promise<TaskLogView | null> =>
    (await supervisor.admin.ask(TaskInspection, "GET", `/v1/tasks/${id}`)).value.logs;
  const launched = (): boolean => executor.updates.some(({ state }) => state === "TASK_RUNNING");
  await waitFor(launched, { deadline: 60_000 });
  await waitFor(async () => (await inspect())?.targets.find(({ type }) => type === "logstash")?.sent === 1);

  const logs = await inspect();
  const [syslog, logstash] = logs?.targets ?? [];
  assert.equal(syslog?.type, "syslog");
  assert.match(syslog?.problem ?? "", /^tls .*: the CA file .*no-ca\.pem cannot be read: ENOENT$/);
  assert.deepEqual(logstash?.dropped, { "no event": 1 });
  const { stdout } = await promisify(execFile)(program("berth"), ["--socket", supervisor.admin.socketPath, "inspect", id]);
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
  assert.doesNotMatch(await supervisor.admin.text("/metrics"), /dropped_total\{target="syslog"/);
  assert.ok(((await metric("berth_log_queued_bytes")) ?? 0) > 100);
  const events = (await sink.events()).map(({ event }) => event).filter((event) => event["instance-id"] === executorId);
  assert.deepEqual(
    events.map(({ message, scid }) => [message, scid]),
    [
      ["one", 9],
      ["last", 9],
    ],
  );
});
