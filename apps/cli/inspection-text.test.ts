import assert from "node:assert/strict";
import { before, test } from "node:test";
import type { TaskInspection } from "@berth/admin-api";
import { inspectionText } from "./inspection-text.ts";

const NOW = Date.parse("2026-11-28T03:12:00Z");
const ago = (seconds: number): number => NOW - seconds * 1000;

before(() => {
  process.env.TZ = "UTC";
});

const ill: TaskInspection = {
  taskId: "web.1",
  frameworkId: "f-1",
  executorId: "x-1",
  name: "berth-web",
  runtime: "docker",
  state: "TASK_RUNNING",
  phase: "stopping",
  step: "drain",
  healthy: false,
  id: "0123456789ab",
  image: "registry/web:7",
  worker: "connected",
  launchedAt: ago(200_000),
  startedAt: ago(199_990),
  message: "Sidecar says UNHEALTHY\nfor a while",
  identity: { frameworkId: "f-1", executorId: "x-1", containerId: "c-1", taskId: "web.1" },
  observed: { state: "running", pid: 77, addresses: [{ network: "bridge", protocol: "IPv4", address: "172.17.0.2" }] },
  lastStatus: { state: "TASK_RUNNING", at: ago(60) },
  stop: { cause: "operator", message: "stopped by the operator", requestedAt: ago(20), gracePeriodMs: 90_000, signalBy: ago(5), signalledAt: ago(5) },
  environment: { A: "one\ntwo", TOKEN: "vault://secret/web" },
  environmentOrigins: { A: "TaskInfo command" },
  events: [
    { at: ago(199_990), what: "started" },
    { at: ago(5), what: "waiting", detail: "for the drain" },
  ],
  sidecar: { host: "h", serviceId: "0123456789ab", status: "UNHEALTHY", since: ago(120), healthy: false, assumedHealthy: null, failures: 2, maxFails: 5 },
  logs: {
    source: "json-file",
    lines: 1234,
    bytes: 1_500_000,
    cut: 0,
    gaps: 2,
    lastGap: "dockerd rotated it away",
    malformed: 0,
    lagBytes: 4096,
    reopened: 0,
    targets: [
      { type: "syslog", name: "syslog tls h:6514", sent: 1200, resent: 30, dropped: { "too long": 3, "rate limit": 1 }, queuedBytes: 12_000, problem: "connection refused" },
      { type: "file", name: "app.log", sent: 1234, dropped: {}, queuedBytes: 0 },
    ],
  },
}; // biome-ignore format: one answer

test("inspect tells a person what the task does and what is wrong with it, before its details", () => {
  assert.equal(
    inspectionText(ill, NOW),
    `task     web.1
state    RUNNING, told 03:11:00.000 (60s ago)
message  Sidecar says UNHEALTHY
         for a while
healthy  NO
now      stopping: drain
worker   connected
stop     stopped by the operator (operator); asked for 03:11:40.000 (20s ago), SIGTERM 03:11:55.000 (5s ago), grace period 1m30s
sidecar  says UNHEALTHY since 03:10:00.000 (2m ago) of service 0123456789ab on h
         NOT healthy; 2 failures in a row of 5 that end the task
output   1234 lines, 1.5 MB read from dockerd's json-file log
         4.1 kB not read yet
         LOST before it could be read: 2 gaps, the last: dockerd rotated it away

  TARGET             SENT  AGAIN  QUEUED   DROPPED                   PROBLEM
  syslog tls h:6514  1200  30     12.0 kB  3 too long, 1 rate limit  connection refused
  file app.log       1234  0      0 B      -                         -

launched    2026-11-25 19:38:40.000 (2d ago)
started     2026-11-25 19:38:50.000 (2d ago)
runtime     docker, berth-web
id          0123456789ab
pid         77
image       registry/web:7
address     172.17.0.2 (bridge)
executor    x-1
framework   f-1
sandbox of  container c-1

environment
  FROM              VARIABLE
  TaskInfo command  A=one\\ntwo
  -                 TOKEN=vault://secret/web

events
  2026-11-25 19:38:50.000  started
  03:11:55.000  waiting: for the drain`,
  );
});

test("inspect says why a task is taken for healthy, and of what there is nothing", () => {
  const silent = {
    ...(ill.sidecar as NonNullable<TaskInspection["sidecar"]>),
    status: null,
    healthy: true,
    assumedHealthy: "Sidecar cannot be asked: ECONNREFUSED",
  };

  assert.match(
    inspectionText({ ...ill, sidecar: silent }, NOW),
    /^sidecar +says nothing since .*\n +assumed healthy: Sidecar cannot be asked: ECONNREFUSED; /m,
  );

  const bare = inspectionText({ ...ill, state: null, lastStatus: undefined, sidecar: null, logs: null, environment: undefined }, NOW);
  assert.match(bare, /^state +none yet$/m);
  assert.match(bare, /^sidecar +not watched$/m);
  assert.match(bare, /^output +nothing is known: /m);
  assert.doesNotMatch(bare, /TARGET|environment|undefined|null/);
});
