/** A task's whole way: the agent's API, the real worker, the real supervisor, a real container or process, and back. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import type { TaskInfoInput } from "@berth/mesos/local-agent";
import { BUSYBOX_IMAGE, type Dockerd, sharedDockerd, waitFor } from "@berth/test-harness";
import { commandTask, newMark, processesWith, shellTask } from "./command-tasks-stage.ts";
import { containerOf, DEAF, dockerTask, WAITING } from "./docker-tasks.ts";
import { state, statesOf, stdoutOf, TaskStage } from "./task-stage.ts";

let docker: Dockerd;
let stage: TaskStage;

before(async () => {
  docker = await sharedDockerd();
  stage = await TaskStage.start({ DOCKER_HOST: docker.host });
});

after(async () => {
  await stage?.[Symbol.asyncDispose]();
  await docker?.stop();
});

/** In a container with an address of its own; that its command is a shell line is the default. */
function containerTask(command: string, more: Record<string, unknown> = {}): TaskInfoInput {
  return dockerTask(command, { docker: { network: "BRIDGE" }, command: { value: command }, ...more });
}

describe("a Docker task", () => {
  test("runs to its exit code, and the worker leaves when all is acknowledged and removed", async () => {
    const task = containerTask("sleep 0.2; exit 4");
    const executor = stage.launch(task);

    const failed = await state(executor, task, "TASK_FAILED");
    const end = await executor.exited;

    assert.deepEqual(statesOf(executor, task), ["TASK_STARTING", "TASK_RUNNING", "TASK_FAILED"]);
    assert.match(failed.message ?? "", /^container exited with 4/);
    assert.equal(failed.reason, "REASON_COMMAND_EXECUTOR_FAILED");
    assert.equal(failed.source, "SOURCE_EXECUTOR");
    assert.deepEqual(end, { code: 0, signal: null });
    assert.equal(await containerOf(docker, task.task_id.value), undefined);
  });

  test("exit 0 is FINISHED, and RUNNING tells the container's own address", async () => {
    const task = containerTask("sleep 0.3");
    const executor = stage.launch(task);

    const running = await state(executor, task, "TASK_RUNNING");
    await state(executor, task, "TASK_FINISHED");

    const address = running.container_status?.network_infos?.[0]?.ip_addresses[0]?.ip_address;
    assert.match(address ?? "", /^\d+\.\d+\.\d+\.\d+$/);
    assert.notEqual(address, "127.0.0.1");
  });

  test("a KILL is TASK_KILLING once, then TASK_KILLED with words about the grace period", async () => {
    const task = containerTask(DEAF);
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");

    executor.kill(task.task_id.value, { gracePeriodMs: 60_000 });
    await state(executor, task, "TASK_KILLING");
    executor.kill(task.task_id.value, { gracePeriodMs: 300 });

    assert.match((await state(executor, task, "TASK_KILLED")).message ?? "", /137: killed by SIGKILL after the 300ms grace period/);
    assert.deepEqual(statesOf(executor, task), ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"]);
  });

  test("an out-of-memory kill is told apart", async () => {
    const task = containerTask("tail /dev/zero", {
      resources: [{ name: "mem", type: "SCALAR", scalar: { value: 64 } }],
      limits: { mem: { value: 64 } },
    });
    const executor = stage.launch(task);

    const failed = await state(executor, task, "TASK_FAILED");

    assert.equal(failed.reason, "REASON_CONTAINER_LIMITATION_MEMORY");
    assert.match(failed.message ?? "", /OOM killed at 64 MiB/);
  });

  test("the worker's title names the container and the image", async () => {
    const task = containerTask(WAITING);
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");

    const [described] = await stage.supervisor.admin.call<Array<{ taskId: string; id: string }>>("GET", "/v1/tasks");
    const title = await waitFor(() => /berth-worker ([0-9a-f]{12}) \((.*)\)/.exec(readFileSync(`/proc/${executor.pid}/cmdline`, "utf8")));

    assert.equal(title[2], BUSYBOX_IMAGE);
    assert.equal(described?.id.startsWith(title[1] ?? "?"), true);
    executor.kill(task.task_id.value);
    await executor.exited;
  });

  test("max_completion_time ends it without a grace period", async () => {
    const task = containerTask(WAITING, { max_completion_time: { nanoseconds: 1_500_000_000 } });
    const executor = stage.launch(task);

    const failed = await state(executor, task, "TASK_FAILED");

    assert.equal(failed.reason, "REASON_MAX_COMPLETION_TIME_REACHED");
    assert.equal(statesOf(executor, task).includes("TASK_KILLING"), false);
  });
});

describe("bad input", () => {
  const cases: Array<[what: string, task: () => TaskInfoInput, state: string, message: RegExp]> = [
    ["neither container nor command", () => ({ task_id: { value: "empty" } }), "TASK_ERROR", /neither a Docker container .* nor a command/],
    ["a bad image name", () => dockerTask("true", { docker: { image: "UPPER case" } }), "TASK_ERROR", /image/],
    ["an unknown enum", () => dockerTask("true", { docker: { network: "CARRIER_PIGEON" } }), "TASK_ERROR", /container\.docker\.network/],
    [
      "a port out of range",
      () => dockerTask("true", { docker: { port_mappings: [{ host_port: 70_000, container_port: 80 }] } }),
      "TASK_ERROR",
      /port_mappings\.0\.host_port/,
    ],
    [
      "an unknown parameter",
      () => dockerTask("true", { docker: { parameters: [{ key: "flavour", value: "x" }] } }),
      "TASK_FAILED",
      /flavour/,
    ],
    [
      "a command that is not there",
      () => containerTask("true", { command: { shell: false, value: "/no/such/program" } }),
      "TASK_FAILED",
      /no such file/,
    ],
  ];
  for (const [what, make, wanted, message] of cases) {
    test(`${what}: ${wanted}, and another task does not notice`, async () => {
      const bystander = containerTask(WAITING);
      const other = stage.launch(bystander);
      await state(other, bystander, "TASK_RUNNING");
      const task = make();
      const executor = stage.launch(task);

      const ended = await state(executor, task, wanted);

      assert.match(ended.message ?? "", message);
      assert.equal((await executor.exited).code, 0);
      assert.deepEqual(statesOf(other, bystander), ["TASK_STARTING", "TASK_RUNNING"]);
      other.kill(bystander.task_id.value);
      await other.exited;
    });
  }
});

describe("the worker", () => {
  test("kill -9 of it: the agent hears of it, and its container is removed", async () => {
    const task = containerTask(WAITING);
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");

    process.kill(executor.pid as number, "SIGKILL");

    const failed = await state(executor, task, "TASK_FAILED");
    assert.equal(failed.reason, "REASON_EXECUTOR_TERMINATED");
    await waitFor(async () => (await containerOf(docker, task.task_id.value)) === undefined, { what: "the removal of the container" });
  });

  test("SIGTERM to it stops the task gracefully", async () => {
    const task = containerTask(WAITING);
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");

    process.kill(executor.pid as number, "SIGTERM");

    assert.match((await state(executor, task, "TASK_KILLED")).message ?? "", /SIGTERM.*container exited with 0/);
    assert.equal((await executor.exited).code, 0);
  });

  test("SHUTDOWN stops the task within the grace period", async () => {
    const task = containerTask(DEAF);
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");

    executor.shutdown();

    await state(executor, task, "TASK_KILLED");
    assert.deepEqual(await executor.exited, { code: 0, signal: null });
  });

  test("without a supervisor the task fails after EXECUTOR_SUPERVISOR_TIMEOUT, saying which socket", async () => {
    const socket = `${stage.folder.path}/nobody.sock`;
    const task = containerTask("true");
    const executor = stage.launch(task, { BERTH_SOCKET: socket, EXECUTOR_SUPERVISOR_TIMEOUT: "1s" });

    const failed = await state(executor, task, "TASK_FAILED");

    assert.match(failed.message ?? "", /no supervisor took the task on within 1 s/);
    assert.equal(failed.message?.includes(socket), true);
    assert.equal((await executor.exited).code, 0);
  });

  test("a supervisor that comes up later takes the task on", async () => {
    await using late = await TaskStage.withoutSupervisor({ DOCKER_HOST: docker.host });
    const task = containerTask("exit 0");
    const executor = late.launch(task);
    await waitFor(() => executor.connected);

    await late.startSupervisor();
    await state(executor, task, "TASK_FINISHED");
    await executor.exited;
  });

  test("it leaves only when the terminal update is acknowledged", async () => {
    const executor = stage.executor();
    const task = containerTask("exit 0");
    stage.agent.faults.holdAcknowledgements(true);
    executor.launch(task);
    await state(executor, task, "TASK_FINISHED");
    await new Promise((resolve) => setTimeout(resolve, 500));

    assert.equal(executor.ended, undefined);
    stage.agent.faults.holdAcknowledgements(false);
    assert.equal((await executor.exited).code, 0);
  });

  test("the agent's restart: the session comes back, and a KILL after it works", async () => {
    await using own = await TaskStage.withoutSupervisor({});
    const task = containerTask(WAITING);
    const executor = own.launch(task, { BERTH_SOCKET: stage.socket });
    await state(executor, task, "TASK_RUNNING");

    await own.agent.faults.restart({ recover: true, downMs: 300 });
    await waitFor(() => executor.connected);
    executor.kill(task.task_id.value);

    await state(executor, task, "TASK_KILLED");
    assert.deepEqual(statesOf(executor, task), ["TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"]);
    await executor.exited;
  });

  test("a broken stream, clean or by reset, loses nothing", async () => {
    for (const end of ["clean", "reset"] as const) {
      const task = containerTask("sleep 1; exit 6");
      const executor = stage.launch(task);
      await state(executor, task, "TASK_RUNNING");

      stage.agent.faults.dropStream(end);

      assert.match((await state(executor, task, "TASK_FAILED")).message ?? "", /exited with 6/);
      await executor.exited;
    }
  });

  test("a scheduler's ping is answered", async () => {
    const task = containerTask(WAITING);
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");
    const answers: string[] = [];
    executor.on("message", (data) => answers.push(data.toString()));

    executor.message(JSON.stringify({ berth: "inspect", id: 7 }));
    const answer = JSON.parse(await waitFor(() => answers[0])) as { berth: string; id: number; tasks: Array<{ taskId: string }> };

    assert.deepEqual([answer.berth, answer.id, answer.tasks[0]?.taskId], ["inspect", 7, task.task_id.value]);
    executor.kill(task.task_id.value);
    await executor.exited;
  });
});

describe("a group", () => {
  test("runs together, and one that fails takes the others along", async () => {
    const executor = stage.executor();
    const failing = containerTask("sleep 1; exit 1");
    const staying = containerTask(WAITING);
    executor.launchGroup([failing, staying]);
    await state(executor, failing, "TASK_RUNNING");
    await state(executor, staying, "TASK_RUNNING");

    await state(executor, failing, "TASK_FAILED");

    assert.match((await state(executor, staying, "TASK_KILLED")).message ?? "", /of its group ended with TASK_FAILED/);
    assert.equal((await executor.exited).code, 0);
  });

  test("is refused whole when one of it is invalid", async () => {
    const executor = stage.executor();
    const invalid = dockerTask("true", { docker: { network: "CARRIER_PIGEON" } });
    const fine = containerTask("true");
    executor.launchGroup([invalid, fine]);

    await state(executor, invalid, "TASK_ERROR");
    assert.match((await state(executor, fine, "TASK_ERROR")).message ?? "", /of its group cannot be/);
    assert.deepEqual(statesOf(executor, fine), ["TASK_ERROR"]);
    await executor.exited;
  });
});

describe("a command task", () => {
  test("runs in the sandbox with the task's environment and nothing of the worker's", async () => {
    const task = commandTask({ value: "pwd; env", environment: { variables: [{ name: "GREETING", value: "hi" }] } });
    const executor = stage.launch(task, { EXECUTOR_KILL_TASK_TIMEOUT: "7", VAULT_TOKEN: "s.secret" });

    await state(executor, task, "TASK_FINISHED");
    await executor.exited;

    const output = stdoutOf(executor);
    assert.equal(output.split("\n")[0], executor.sandbox);
    assert.match(output, /^GREETING=hi$/m);
    assert.doesNotMatch(output, /^(EXECUTOR_|VAULT_|BERTH_SOCKET|MESOS_AGENT_ENDPOINT)/m);
  });

  test("a kill takes the whole tree, also what left its session and ignores SIGTERM", async () => {
    const mark = newMark();
    const task = shellTask(`trap '' TERM; (setsid sh -c "trap '' TERM; sleep ${mark} & wait" &) ; sleep ${mark} & wait; wait`);
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");
    await waitFor(() => processesWith(mark).length >= 2, { what: "the tree" });

    executor.kill(task.task_id.value, { gracePeriodMs: 500 });
    await state(executor, task, "TASK_KILLED");

    assert.deepEqual(processesWith(mark), []);
    assert.equal((await executor.exited).code, 0);
  });

  test("what the root leaves in the background goes with it", async () => {
    const mark = newMark();
    const task = shellTask(`sleep ${mark} & (setsid sleep ${mark} &); sleep 0.3; exit 5`);
    const executor = stage.launch(task);

    assert.match((await state(executor, task, "TASK_FAILED")).message ?? "", /process exited with 5/);
    assert.deepEqual(processesWith(mark), []);
    await executor.exited;
  });

  test("the supervisor's death: it does not notice, and its exit meanwhile is told with its code", async () => {
    await using own = await TaskStage.start({ DOCKER_HOST: docker.host });
    const task = shellTask("sleep 1; exit 8");
    const executor = own.launch(task);
    await state(executor, task, "TASK_RUNNING");

    await own.supervisor.kill();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await own.startSupervisor();

    assert.match((await state(executor, task, "TASK_FAILED")).message ?? "", /process exited with 8/);
    await executor.exited;
  });

  test("a kill while the supervisor is away is carried out by the worker itself", async () => {
    await using own = await TaskStage.start({ DOCKER_HOST: docker.host });
    const mark = newMark();
    const task = shellTask(`sleep ${mark}`);
    const executor = own.launch(task);
    await state(executor, task, "TASK_RUNNING");

    await own.supervisor.kill();
    executor.kill(task.task_id.value);
    await waitFor(() => processesWith(mark).length === 0, { what: "the end of the process" });
    await own.startSupervisor();

    await state(executor, task, "TASK_KILLED");
    await executor.exited;
  });

  test("kill -9 of the worker: nothing that it started stays", async () => {
    const mark = newMark();
    const task = shellTask(`sleep ${mark}`);
    const executor = stage.launch(task);
    await state(executor, task, "TASK_RUNNING");
    await waitFor(() => processesWith(mark).length > 0);

    process.kill(executor.pid as number, "SIGKILL");

    await waitFor(() => processesWith(mark).length === 0, { what: "the end of the process" });
  });

  test("an unknown user and a missing program are clear failures", async () => {
    for (const [command, message] of [
      [{ value: "true", user: "nobody-of-that-name" }, /user "nobody-of-that-name" does not exist/],
      [{ shell: false, value: "/no/such/program", arguments: ["x"] }, /\/no\/such\/program does not exist/],
    ] as const) {
      const task = commandTask(command);
      const executor = stage.launch(task);

      assert.match((await state(executor, task, "TASK_FAILED")).message ?? "", message);
      await executor.exited;
    }
  });
});
