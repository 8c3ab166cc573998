import assert from "node:assert/strict";
import { test } from "node:test";
import { TaskFailure } from "@berth/mesos";
import { environmentRecord, planContainer } from "./container-plan.ts";
import { isDropIn, parseDropInFlags } from "./drop-in.ts";
import { dockerTask, planInput } from "./fixtures/input.ts";

const NAME = "mesos-20fb8fbe-82bb-4e97-932f-0311461e80d7";
const SANDBOX = `/var/lib/mesos/slaves/S0/frameworks/f/executors/dk-1/runs/${NAME.slice(6)}`;
/** As the agent of Mesos 1.12 starts its docker executor. */
const ARGUMENTS = [
  "--cgroups_enable_cfs=false",
  `--container=${NAME}`,
  "--docker=/usr/bin/docker",
  "--docker_socket=/var/run/docker.sock",
  "--help=false",
  "--initialize_driver_logging=true",
  "--launcher_dir=/usr/libexec/mesos",
  "--logbufsecs=0",
  "--logging_level=INFO",
  "--mapped_directory=/mnt/mesos/sandbox",
  "--quiet=false",
  `--sandbox_directory=${SANDBOX}`,
  "--stop_timeout=0ns",
];

test("the stock command line is understood", () => {
  const flags = parseDropInFlags(ARGUMENTS);

  assert.ok(isDropIn(flags));
  assert.deepEqual(flags, {
    cgroupsEnableCfs: false,
    container: NAME,
    docker: "/usr/bin/docker",
    dockerSocket: "/var/run/docker.sock",
    launcherDirectory: "/usr/libexec/mesos",
    mappedDirectory: "/mnt/mesos/sandbox",
    sandboxDirectory: SANDBOX,
    stopTimeoutMs: 0,
    unknown: [],
  });
});

test("unknown arguments are remembered by name, and none makes a drop-in", () => {
  const flags = parseDropInFlags(["-logtostderr=true", "      ", "--new_flag=hunter2", "word", "--no-cgroups_enable_cfs", "--toString=x"]);

  assert.deepEqual(flags, { cgroupsEnableCfs: false, unknown: ["--new_flag", "an argument that is no flag", "--toString"] });
  assert.ok(!isDropIn(flags));
});

test("a bad value of a known flag is a TaskFailure without the value", () => {
  for (const argument of [
    "--stop_timeout=hunter2",
    '--task_environment={"A":{"hunter2":1}}',
    "--task_environment=hunter2",
    '--default_container_dns={"docker":"hunter2"}',
  ]) {
    assert.throws(
      () => parseDropInFlags([argument]),
      (error) =>
        TaskFailure.is(error) && !error.message.includes("hunter2") && error.message.includes(argument.slice(0, argument.indexOf("="))),
    );
  }
});

/** What `docker inspect` showed of a container that Mesos's own docker executor started from this TaskInfo on a host of 24 GiB. */
test("a container is as Mesos's docker executor makes it", () => {
  const task = dockerTask(
    {
      image: "busybox:test",
      network: "HOST",
      parameters: [
        { key: "label", value: "a=b" },
        { key: "cap-add", value: "NET_ADMIN" },
        { key: "ulimit", value: "nofile=1000:1000" },
      ],
    },
    {
      command: { value: "trap 'exit 3' TERM; sleep 9", environment: { variables: [{ name: "FOO", value: "bar" }] } },
      resources: [
        { name: "cpus", type: "SCALAR", scalar: { value: 0.2 }, allocation_info: { role: "*" } },
        { name: "mem", type: "SCALAR", scalar: { value: 64 }, allocation_info: { role: "*" } },
      ],
      limits: { cpus: { value: 0.5 }, mem: { value: 128 } },
    },
    {
      volumes: [
        { container_path: "/data", host_path: "/opt/test/img", mode: "RO" },
        { container_path: "rel", host_path: "/opt/test/e", mode: "RW" },
      ],
    },
  );

  const plan = planContainer(planInput(task, {}, { executorArguments: ARGUMENTS }));

  assert.equal(plan.name, NAME);
  assert.deepEqual(environmentRecord(plan.environment), {
    FOO: "bar",
    MESOS_SANDBOX: "/mnt/mesos/sandbox",
    MESOS_CONTAINER_NAME: NAME,
    MESOS_ALLOCATION_ROLE: "*",
  });
  assert.deepEqual(plan.create.Entrypoint, ["/bin/sh"]);
  assert.deepEqual(plan.create.Cmd, ["-c", "trap 'exit 3' TERM; sleep 9"]);
  assert.equal(plan.labels.a, "b");
  assert.deepEqual(plan.create.HostConfig, {
    RestartPolicy: { Name: "no" },
    Binds: ["/opt/test/img:/data:ro", "/opt/test/e:/mnt/mesos/sandbox/rel:rw", `${SANDBOX}:/mnt/mesos/sandbox`],
    NetworkMode: "host",
    // The engine takes a capability with and without its prefix.
    CapAdd: ["CAP_NET_ADMIN"],
    OomScoreAdj: 998,
    CpuShares: 204,
    Memory: 134217728,
    CpuQuota: 50000,
    MemoryReservation: 67108864,
    Ulimits: [{ Name: "nofile", Hard: 1000, Soft: 1000 }],
  });
});

test("in the place of Mesos's docker executor resources always count, with its minimum", () => {
  const host = (fields: object, ...more: string[]): object => {
    const {
      Binds: _,
      RestartPolicy: __,
      NetworkMode: ___,
      ...rest
    } = planContainer(planInput(dockerTask({}, fields), {}, { executorArguments: [...ARGUMENTS, ...more] })).create.HostConfig;
    return rest;
  };
  const resources = [
    { name: "cpus", type: "SCALAR", scalar: { value: 0.001 } },
    { name: "mem", type: "SCALAR", scalar: { value: 8 } },
  ];

  assert.deepEqual(host({ resources }), { CpuShares: 2, Memory: 32 * 1024 * 1024 });
  assert.deepEqual(host({ resources }, "--cgroups_enable_cfs=true"), { CpuShares: 2, CpuQuota: 1000, Memory: 32 * 1024 * 1024 });
  assert.deepEqual(host({}), {});
});

test("the agent's task environment wins over the TaskInfo's, a parameter over both", () => {
  const task = dockerTask(
    { parameters: [{ key: "env", value: "B=parameter" }] },
    {
      command: {
        shell: false,
        environment: {
          variables: [
            { name: "A", value: "task" },
            { name: "B", value: "task" },
          ],
        },
      },
    },
  );

  const plan = planContainer(planInput(task, {}, { executorArguments: [...ARGUMENTS, '--task_environment={"A":"hook","B":"hook"}'] }));

  const { A, B } = environmentRecord(plan.environment);
  assert.deepEqual([A, B], ["hook", "parameter"]);
});

test("the agent's default DNS holds for bridge and named networks, until the task says something of DNS", () => {
  const dns = (server: string): object => ({ nameservers: [server], search: ["example.org"], options: ["ndots:1"] });
  const flag = `--default_container_dns=${JSON.stringify({
    mesos: [],
    docker: [
      { network_mode: "BRIDGE", dns: dns("10.0.0.1") },
      { network_mode: "USER", dns: dns("10.0.0.2") },
      { network_mode: "USER", network_name: "back", dns: dns("10.0.0.3") },
    ],
  })}`;
  const servers = (docker: object, container: object = {}): unknown =>
    planContainer(planInput(dockerTask(docker, {}, container), {}, { executorArguments: [...ARGUMENTS, flag] })).create.HostConfig.Dns;

  assert.deepEqual(servers({ network: "BRIDGE" }), ["10.0.0.1"]);
  assert.deepEqual(servers({ network: "USER" }, { network_infos: [{ name: "front" }] }), ["10.0.0.2"]);
  assert.deepEqual(servers({ network: "USER" }, { network_infos: [{ name: "back" }] }), ["10.0.0.3"]);
  assert.equal(servers({ network: "HOST" }), undefined);
  assert.equal(servers({ network: "BRIDGE", parameters: [{ key: "dns-search", value: "example.com" }] }), undefined);
});

test("the grace period is the longer of --stop_timeout and the executor's shutdown grace period", () => {
  const stop = (flag: string, environment: Record<string, string>): number =>
    planContainer(planInput(dockerTask(), {}, { executorArguments: [...ARGUMENTS, flag], executorEnvironment: environment })).stopTimeoutMs;

  assert.equal(stop("--stop_timeout=0ns", { MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD: "3secs" }), 3000);
  assert.equal(stop("--stop_timeout=1mins", { MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD: "3secs" }), 60_000);
  assert.equal(stop("--stop_timeout=0ns", {}), 5000);
});
