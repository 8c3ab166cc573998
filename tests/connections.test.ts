/** One of each per host: what thirty tasks cost at dockerd's socket, against what one costs. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { sharedDockerd, startSocketProxy, waitFor } from "@berth/test-harness";
import { dockerTask } from "./docker-tasks.ts";
import { ScriptedStage } from "./scripted-stage.ts";

/** EXECUTOR_DOCKER_CONNECTIONS for calls, and one for the event stream. */
const CALLS = 4;

test("one event stream and a bounded pool, with 1 task and with 30", async () => {
  await using docker = await sharedDockerd();
  await using proxy = await startSocketProxy(docker.host);
  await using stage = await ScriptedStage.on(docker, { DOCKER_HOST: proxy.host, EXECUTOR_DOCKER_CONNECTIONS: String(CALLS) });
  await stage.startSupervisor();
  const { supervisor } = stage;
  const worker = stage.newWorker();
  const streams = (): number => proxy.openRequests().filter((line) => line.startsWith("GET ") && line.includes("/events?")).length;
  const launch = (): string => {
    const task = dockerTask("trap 'exit 0' TERM; while :; do sleep 0.5; done");
    worker.launch(task);
    return task.task_id.value;
  };
  const ids: string[] = [];
  try {
    await worker.connect();
    ids.push(launch());
    await worker.update(ids[0] as string, "TASK_RUNNING");
    const withOne = { streams: streams(), peak: proxy.peak() };

    for (let i = 1; i < 30; i++) ids.push(launch());
    for (const id of ids) await worker.update(id, "TASK_RUNNING", 120_000);
    const withThirty = { streams: streams(), peak: proxy.peak() };

    assert.deepEqual([withOne.streams, withThirty.streams], [1, 1]);
    assert.ok(withOne.peak <= CALLS + 1, `${withOne.peak} connections with one task`);
    assert.ok(withThirty.peak <= CALLS + 1, `${withThirty.peak} connections with thirty tasks`);
    const metrics = await supervisor.admin.text("/metrics");
    assert.match(metrics, /^berth_docker_event_streams_total 1$/m);
    assert.match(metrics, /^berth_docker_connections\{use="events"\} 1$/m);

    // A stream that breaks is opened again, once, whatever the number of tasks.
    proxy.cut();
    await waitFor(async () => /^berth_docker_event_streams_total 2$/m.test(await supervisor.admin.text("/metrics")));
    await waitFor(() => streams() === 1);
  } finally {
    for (const id of ids) worker.kill(id, 0);
    for (const id of ids) await worker.update(id, "TASK_KILLED", 120_000).catch(() => {});
    await waitFor(() => worker.exitCode === 0, { deadline: 60_000, what: "the removal of all containers" }).catch(() => {});
    await stage.endWorkers();
  }
});
