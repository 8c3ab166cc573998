import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { TaskInfo } from "@berth/mesos/task-info";
import { DockerEngine } from "@berth/runtime/docker/engine";
import { dockerEndpoint } from "@berth/runtime/docker/engine-endpoint";
import { BUSYBOX_IMAGE, sharedDockerd, waitFor } from "@berth/test-harness";
import { createHealthWatches } from "./index.ts";
import { isRoot, startTask } from "./test-kit.ts";
import type { CheckedTask, HealthParts, HealthVerdicts } from "./types.ts";

const skip = isRoot ? false : "network namespaces need root";
const identity = { frameworkId: "f", executorId: "e", containerId: "c", taskId: "t" };
const silent = { debug: () => {}, warn: () => {}, info: () => {}, error: () => {} };

function watches(more: Partial<HealthParts> = {}) {
  return createHealthWatches({
    exec: () => Promise.reject(new Error("no Docker in this test")),
    now: Date.now,
    log: silent,
    thread: false,
    ...more,
  });
}

function taskWith(fields: object, observed: Partial<CheckedTask["observed"]>, healthyBefore?: boolean): CheckedTask {
  const task = TaskInfo.parse({ task_id: { value: "t" }, ...fields });
  return { identity, task, observed: { id: "0123456789ab", pid: process.pid, startedAt: Date.now(), ...observed }, healthyBefore };
}

/** Everything that was told, in order. */
function recorder(): { told: string[]; verdicts: HealthVerdicts } {
  const told: string[] = [];
  const verdicts: HealthVerdicts = {
    health: (healthy, report) => void told.push(`${healthy ? "healthy" : "unhealthy"} ${report?.reason}`),
    check: (report) => void told.push(JSON.stringify(report.checkStatus)),
    stop: (cause, message) => void told.push(`stop ${cause}: ${message}`),
  };
  return { told, verdicts };
}

const fast = { delay_seconds: 0, interval_seconds: 0.1, grace_period_seconds: 0, consecutive_failures: 2 };
const UPDATED = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED";

test("a task that stops answering is told of each time, then stopped, and not checked any more", { skip }, async () => {
  await using task = await startTask({ namespace: true });
  const { told, verdicts } = recorder();
  const fields = (path: string) => ({ health_check: { type: "HTTP", http: { port: task.port, path }, ...fast } });

  const endGood = watches().health.begin(taskWith(fields("/status/200"), { pid: task.pid }), verdicts);
  await waitFor(() => task.requests.length >= 3);
  endGood();
  assert.deepEqual(told, [`healthy ${UPDATED}`]);

  watches().health.begin(taskWith(fields("/status/503"), { pid: task.pid }, true), verdicts);
  await waitFor(() => told.some((line) => line.startsWith("stop")));
  const asked = task.requests.length;
  await new Promise((resolve) => setTimeout(resolve, 350));
  assert.equal(task.requests.length, asked, "no check after the stop");
  assert.deepEqual(told.slice(1, 3), [`unhealthy ${UPDATED}`, `unhealthy ${UPDATED}`]);
  assert.match(told[3] ?? "", /^stop unhealthy: the HTTP health check failed 2 of 2 times in a row: http:.* answered with status 503$/);
});

test("ending a watch ends the check under way: nothing is told after it", { skip }, async () => {
  await using task = await startTask({ namespace: true });
  const { told, verdicts } = recorder();
  const check = { health_check: { type: "HTTP", http: { port: task.port, path: "/mute" }, ...fast, timeout_seconds: 0.5 } };

  const end = watches().health.begin(taskWith(check, { pid: task.pid }), verdicts);
  await waitFor(() => task.requests.length === 1);
  end();
  await new Promise((resolve) => setTimeout(resolve, 700));

  assert.deepEqual(told, []);
});

test("the thread that makes checks for all tasks ends when it is told to", { skip }, async () => {
  await using task = await startTask({ namespace: true });
  const { told, verdicts } = recorder();
  const threaded = watches({ thread: true });
  const check = { health_check: { type: "HTTP", http: { port: task.port, path: "/status/200" }, ...fast } };

  const end = threaded.health.begin(taskWith(check, { pid: task.pid }), verdicts);
  await waitFor(() => told.length === 1);
  const refused = { health_check: { type: "TCP", tcp: { port: 1 }, ...fast } };
  threaded.health.begin(taskWith(refused, { pid: task.pid }), verdicts);
  await waitFor(() => told.at(-1)?.startsWith("stop"));
  end();
  await threaded.close();

  assert.deepEqual(told.slice(0, 3), [`healthy ${UPDATED}`, `unhealthy ${UPDATED}`, `unhealthy ${UPDATED}`]);
  assert.match(told.at(-1) ?? "", /no connection to 127\.0\.0\.1:1: Connection refused/);
});

test("a check only reports what changes, as facts", { skip }, async () => {
  await using task = await startTask({ namespace: true });
  const { told, verdicts } = recorder();
  const http = { type: "HTTP", delay_seconds: 0, interval_seconds: 0.1, http: { port: task.port, path: "/status/404" } };

  const end = watches().check.begin(taskWith({ check: http }, { pid: task.pid }), verdicts);
  await waitFor(() => task.requests.length >= 3);
  end();
  const tcp = { type: "TCP", delay_seconds: 0, interval_seconds: 0.1, tcp: { port: 1 } };
  const endTcp = watches().check.begin(taskWith({ check: tcp }, { pid: task.pid }), verdicts);
  await waitFor(() => told.length === 2);
  endTcp();

  assert.deepEqual(
    told.map((line) => JSON.parse(line)),
    [
      { type: "HTTP", http: { status_code: 404 } },
      { type: "TCP", tcp: { succeeded: false } },
    ],
  );
});

test("what cannot be checked is neither healthy nor unhealthy", async () => {
  const { told, verdicts } = recorder();
  const warnings: object[] = [];
  const log = { debug: () => {}, warn: (fields: object) => void warnings.push(fields) };
  const check = { health_check: { type: "COMMAND", command: { value: "true" }, ...fast } };

  const end = watches({ log }).health.begin(taskWith(check, {}), verdicts);
  await waitFor(() => warnings.length >= 3);
  end();

  assert.deepEqual(told, []);
});

for (const network of ["none", "bridge"]) {
  test(`a container with the network '${network}': what listens on its own 127.0.0.1 is reached`, { skip }, async () => {
    const dockerd = await sharedDockerd();
    const engine = new DockerEngine({ endpoint: dockerEndpoint({ DOCKER_HOST: dockerd.host }), watchLabel: "health-test", log: silent });
    const Cmd = ["httpd", "-f", "-p", "127.0.0.1:80", "-h", "/etc"];
    const body = { Image: BUSYBOX_IMAGE, Cmd, HostConfig: { Init: true, NetworkMode: network } };
    const created = await engine.create({ name: `health-net-${process.pid}-${network}`, body });
    const id = created.id ?? "";
    try {
      await engine.start(id);
      const observed = (await engine.inspect(id))?.state as CheckedTask["observed"];
      const { told, verdicts } = recorder();
      const check = {
        health_check: { type: "HTTP", http: { port: 80, path: "/passwd", statuses: [200, 404] }, ...fast, consecutive_failures: 50 },
      };
      const end = watches().health.begin(taskWith(check, observed), verdicts);
      await waitFor(() => told.includes(`healthy ${UPDATED}`));
      end();
    } finally {
      await engine.remove(id, { force: true });
      await engine.close();
      await dockerd.stop();
    }
  });
}

test("a command in a container: exit code, environment, user; killed at its timeout", async () => {
  const dockerd = await sharedDockerd();
  const engine = new DockerEngine({ endpoint: dockerEndpoint({ DOCKER_HOST: dockerd.host }), watchLabel: "health-test", log: silent });
  const created = await engine.create({
    name: `health-test-${process.pid}`,
    body: { Image: BUSYBOX_IMAGE, Cmd: ["sleep", "300"], Env: ["OWN=1"], HostConfig: { Init: true, NetworkMode: "none" } },
  });
  const id = created.id ?? "";
  try {
    await engine.start(id);
    const observed = (await engine.inspect(id))?.state as CheckedTask["observed"];
    const { told, verdicts } = recorder();
    const command = { shell: true, value: 'test "$OWN$ADDED" = 12 && exit 7', environment: { variables: [{ name: "ADDED", value: "2" }] } };
    const check = { type: "COMMAND", delay_seconds: 0, interval_seconds: 0.1, timeout_seconds: 20, command: { command } };
    const { health, check: reporting } = watches({ exec: (request, signal) => engine.exec(request, signal) });

    const end = reporting.begin(taskWith({ check }, observed), verdicts);
    await waitFor(() => told.length === 1);
    end();
    assert.deepEqual(JSON.parse(told[0] ?? ""), { type: "COMMAND", command: { exit_code: 7 } });

    const hanging = {
      type: "COMMAND",
      ...fast,
      timeout_seconds: 0.4,
      command: { shell: false, value: "sleep", arguments: ["sleep", "4711"] },
    };
    health.begin(taskWith({ health_check: hanging }, observed), verdicts);
    await waitFor(() => told.at(-1)?.startsWith("stop"));
    assert.match(told.at(-1) ?? "", /no result within 0\.4 s/);
    await waitFor(async () => !(await engine.exec({ id, argv: ["ps"], timeoutMs: 5000 })).output.includes("sleep 4711"));
  } finally {
    await engine.remove(id, { force: true });
    await engine.close();
    await dockerd.stop();
  }
});

test("a command beside a command task: its user, environment and directory; killed whole at its timeout", { skip }, async () => {
  const options = { uid: 65534, gid: 65534, cwd: "/usr", env: { PATH: process.env.PATH, OWN: "1" } };
  const task = spawn("sleep", ["300"], options);
  const pid = task.pid as number;
  try {
    const { told, verdicts } = recorder();
    const observed = { pid, id: String(pid) };
    const value = 'test "$(id -u)-$OWN-$(pwd)" = 65534-1-/usr && exit 5';
    const check = { type: "COMMAND", delay_seconds: 0, interval_seconds: 0.1, command: { command: { value } } };
    const end = watches().check.begin(taskWith({ check }, observed), verdicts);
    await waitFor(() => told.length === 1);
    end();
    assert.deepEqual(JSON.parse(told[0] ?? ""), { type: "COMMAND", command: { exit_code: 5 } });

    const forking = { type: "COMMAND", ...fast, timeout_seconds: 0.4, command: { value: "setsid sleep 4712 & sleep 4713" } };
    watches().health.begin(taskWith({ health_check: forking }, observed), verdicts);
    await waitFor(() => told.at(-1)?.startsWith("stop"));
    await waitFor(
      () => !/sleep 471[23]/.test(execFileSync("ps", ["-eo", "args"], { encoding: "utf8" }).replaceAll(/setsid sleep 4712 &.*/g, "")),
    );
  } finally {
    task.kill("SIGKILL");
    await once(task, "exit");
  }
});

test("a command beside a command task that the agent gave namespaces of its own runs in them", { skip }, async () => {
  const task = spawn("unshare", ["--mount", "--pid", "--net", "--fork", "--mount-proc", "--kill-child", "sleep", "4716"]);
  try {
    const pid = await waitFor(() =>
      Number(execFileSync("sh", ["-c", `cat /proc/${task.pid}/task/*/children`], { encoding: "utf8" }).trim()),
    );
    await waitFor(() => readFileSync(`/proc/${pid}/comm`, "utf8") === "sleep\n");
    const { told, verdicts } = recorder();
    // In a pid namespace of its own with its own /proc, and with no network but a loopback that is down.
    const value = 'test "$(cat /proc/1/comm)" = sleep && ! grep -q eth /proc/net/dev && exit 6';
    const check = { type: "COMMAND", delay_seconds: 0, interval_seconds: 0.1, command: { command: { value } } };

    const end = watches().check.begin(taskWith({ check }, { pid, id: String(pid) }), verdicts);
    await waitFor(() => told.length === 1);
    end();

    assert.deepEqual(JSON.parse(told[0] ?? ""), { type: "COMMAND", command: { exit_code: 6 } });
  } finally {
    task.kill("SIGKILL");
    await once(task, "exit");
  }
});
