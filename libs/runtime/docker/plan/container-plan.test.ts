import assert from "node:assert/strict";
import { test } from "node:test";
import { TaskFailure } from "@berth/mesos";
import { type ContainerPlan, planContainer } from "./container-plan.ts";
import { dockerTask, PLAIN_OPTIONS, planInput } from "./fixtures/input.ts";

function plan(task: unknown, options: Parameters<typeof planInput>[1] = {}, rest: Parameters<typeof planInput>[2] = {}): ContainerPlan {
  return planContainer(planInput(task, options, rest));
}

function refuses(task: unknown, field: string, state = "TASK_ERROR"): void {
  assert.throws(
    () => plan(task),
    (error) => TaskFailure.is(error) && error.state === state && error.message.includes(field),
    field,
  );
}

const scalar = (name: string, value: number | string): object => ({ name, type: "SCALAR", scalar: { value } });
const parameter = (key: string, value: string): object => ({ key, value });

test("a bare task becomes a bare container with Berth's labels", () => {
  const made = plan(dockerTask());

  assert.deepEqual(made.create, {
    Image: "web:1.2",
    HostConfig: { RestartPolicy: { Name: "no" }, NetworkMode: "host" },
    Labels: {
      "berth.framework-id": "framework-1",
      "berth.executor-id": "executor-1",
      "berth.container-id": "c0ffee00-0000-4000-8000-000000000001",
      "berth.task-id": "web.1",
      "berth.worker-pid": "4711",
      "berth.worker-start-time": "123456",
      "berth.sandbox": "/var/lib/mesos/sandbox",
      "berth.agent-hostname": "agent-1.example.org",
      "berth.stop-timeout-ms": "5000",
      "berth.version": "1.0.0",
    },
  });
  assert.match(made.name, /^berth-web\.1-[0-9a-f]{12}$/);
  assert.equal(made.forcePull, false);
  assert.deepEqual([made.networksToConnect, made.warnings, made.withheldVariables], [[], [], []]);
});

test("a task without container.docker, or with a bad image, is a TASK_ERROR", () => {
  refuses({ task_id: { value: "t" } }, "container.docker");
  refuses({ task_id: { value: "t" }, container: { type: "MESOS" } }, "container.docker");
  refuses(dockerTask({ image: "Web" }), "container.docker.image");
});

test("labels: those of hooks and of the instance win", () => {
  const made = plan(dockerTask({ parameters: [parameter("label", "a=b=c"), parameter("label", "x")] }), {
    instance: "/run/b.sock",
    extraLabels: { "berth.lease": "l" },
  });

  assert.equal(made.labels.a, "b=c");
  assert.equal(made.labels.x, "");
  assert.equal(made.labels["berth.instance"], "/run/b.sock");
  assert.equal(made.labels["berth.lease"], "l");
});

test("commands", () => {
  const withLabel = (value: string, fields: object = {}): unknown =>
    dockerTask({ parameters: [parameter("label", `executor.ShellCommand=${value}`)] }, fields);

  const cases: Array<[unknown, string[] | undefined, string[] | undefined]> = [
    [dockerTask({}, { command: { value: "echo $X; exit 3" } }), ["/bin/sh"], ["-c", "echo $X; exit 3"]],
    [dockerTask({}, { command: { shell: false, value: "echo", arguments: ["a b", ""] } }), undefined, ["echo", "a b", ""]],
    [dockerTask({}, { command: { shell: false, arguments: ["a"] } }), undefined, ["a"]],
    [withLabel(`run "two words" 'it''s' --x=1`), undefined, ["run", "two words", "its", "--x=1"]],
    [withLabel("from label", { command: { shell: false } }), undefined, ["from", "label"]],
    [withLabel("from label", { command: { value: "true" } }), ["/bin/sh"], ["-c", "true"]],
    [dockerTask({ parameters: [parameter("entrypoint", "/bin/bash")] }, { command: { value: "x" } }), ["/bin/bash"], ["-c", "x"]],
    [dockerTask(), undefined, undefined],
  ];
  for (const [task, entrypoint, command] of cases) {
    const made = plan(task);
    assert.deepEqual([made.create.Entrypoint, made.create.Cmd], [entrypoint, command]);
    assert.equal(made.labels["executor.ShellCommand"], undefined);
  }
  refuses(withLabel(`run "open`), "executor.ShellCommand");
  refuses(dockerTask({}, { command: { shell: true, arguments: ["x"] } }), "command.value");
});

test("ports: all bindings are kept, each protocol is one, and what is published is exposed", () => {
  const port_mappings = [
    { host_port: 31000, container_port: 80 },
    { host_port: 31001, container_port: 80, protocol: "tcp" },
    { host_port: 31002, container_port: 53, protocol: "tcp, UDP" },
    { host_port: 0, container_port: 9000 },
    { host_port: 31003, container_port: 0 },
  ];

  const { create, warnings } = plan(
    dockerTask({
      network: "BRIDGE",
      port_mappings,
      parameters: [parameter("publish", "127.0.0.1:8080:80"), parameter("publish", "31000:80")],
    }),
  );

  const at = (HostPort: string, HostIp = ""): object => ({ HostIp, HostPort });
  assert.deepEqual(create.HostConfig.PortBindings, {
    "80/tcp": [at("31000"), at("31001"), at("8080", "127.0.0.1")],
    "53/tcp": [at("31002")],
    "53/udp": [at("31002")],
  });
  assert.deepEqual(Object.keys(create.ExposedPorts ?? {}), ["80/tcp", "53/tcp", "53/udp", "9000/tcp"]);
  assert.deepEqual(warnings, []);
  assert.match(plan(dockerTask({ port_mappings })).warnings.join(), /'host' publishes no ports/);
  refuses(dockerTask({ port_mappings: [{ host_port: 1, container_port: 2, protocol: "icmp" }] }), "port_mappings.0.protocol");
});

test("networks: the mode, the first and the further ones", () => {
  const user = (names: Array<string | undefined>, docker: object = {}): unknown =>
    dockerTask({ network: "USER", ...docker }, {}, { network_infos: names.map((name) => (name === undefined ? {} : { name })) });

  assert.equal(plan(dockerTask({ network: "HOST" })).create.HostConfig.NetworkMode, "host");
  assert.equal(
    plan(dockerTask({ network: "BRIDGE" }, {}, { network_infos: [{ name: "ignored" }] })).create.HostConfig.NetworkMode,
    "bridge",
  );
  assert.equal(plan(dockerTask({ network: "NONE" })).create.HostConfig.NetworkMode, "none");

  const several = plan(
    user(["back", "front", "back"], {
      parameters: [parameter("network-alias", "web"), parameter("ip", "10.0.0.9"), parameter("link", "db:d")],
    }),
  );
  assert.equal(several.create.HostConfig.NetworkMode, "back");
  assert.deepEqual(several.create.NetworkingConfig, {
    EndpointsConfig: { back: { Aliases: ["web"], IPAMConfig: { IPv4Address: "10.0.0.9" }, Links: ["db:d"] } },
  });
  assert.deepEqual(several.networksToConnect, [{ network: "front", endpointConfig: {} }]);

  const replaced = plan(
    dockerTask({ parameters: [parameter("network", "name=back,alias=a"), parameter("network", "front"), parameter("net-alias", "b")] }),
  );
  assert.equal(replaced.create.HostConfig.NetworkMode, "back");
  assert.deepEqual(replaced.create.NetworkingConfig?.EndpointsConfig.back?.Aliases, ["a", "b"]);
  assert.deepEqual(replaced.networksToConnect, [{ network: "front", endpointConfig: {} }]);

  refuses(user([]), "container.network_infos");
  refuses(user(["a", undefined]), "container.network_infos.1.name");
  refuses(dockerTask({ parameters: [parameter("ip", "10.0.0.9")] }), "user-defined network");
  refuses(dockerTask({ parameters: [parameter("network", "host"), parameter("network", "back")] }), "further networks");
});

test("the host name comes from the container, a parameter wins", () => {
  assert.equal(plan(dockerTask({}, {}, { hostname: "h" })).create.Hostname, "h");
  assert.equal(plan(dockerTask({ parameters: [parameter("hostname", "p")] }, {}, { hostname: "h" })).create.Hostname, "p");
});

test("volumes", () => {
  const one = (volume: object, docker: object = {}): ContainerPlan => plan(dockerTask(docker, {}, { volumes: [volume] }));
  const sandbox = "/var/lib/mesos/sandbox";
  const binds: Array<[object, string]> = [
    [{ container_path: "/data", host_path: "/srv", mode: "RW" }, "/srv:/data:rw"],
    [{ container_path: "/data", host_path: "/srv", mode: "RO" }, "/srv:/data:ro"],
    [{ container_path: "/data", host_path: "/srv" }, "/srv:/data"],
    [{ container_path: "/data", host_path: "logs/x", mode: "RW" }, `${sandbox}/logs/x:/data:rw`],
    [{ container_path: "rel", host_path: "/srv", mode: "RW" }, "/srv:/mnt/mesos/sandbox/rel:rw"],
    [{ container_path: "/data", mode: "RO", source: { type: "HOST_PATH", host_path: { path: "/srv" } } }, "/srv:/data:ro"],
    [
      { container_path: "/data", mode: "RW", source: { type: "SANDBOX_PATH", sandbox_path: { type: "SELF", path: "x" } } },
      `${sandbox}/x:/data:rw`,
    ],
    [
      { container_path: "/data", mode: "RW", source: { type: "SANDBOX_PATH", sandbox_path: { type: "PARENT", path: "." } } },
      `${sandbox}:/data:rw`,
    ],
    [{ container_path: "/data", mode: "RW", source: { type: "DOCKER_VOLUME", docker_volume: { name: "vol" } } }, "vol:/data:rw"],
  ];
  for (const [volume, bind] of binds) assert.deepEqual(one(volume).create.HostConfig.Binds, [bind]);

  const named = one({ container_path: "/data", host_path: "vol", mode: "RW" }, { volume_driver: "nfs" });
  assert.deepEqual([named.create.HostConfig.Binds, named.create.HostConfig.VolumeDriver], [["vol:/data:rw"], "nfs"]);
  const byParameter = one(
    { container_path: "/data", host_path: "vol" },
    { volume_driver: "nfs", parameters: [parameter("volume-driver", "ceph")] },
  );
  assert.deepEqual([byParameter.create.HostConfig.Binds, byParameter.create.HostConfig.VolumeDriver], [["vol:/data"], "ceph"]);

  const driver_options = { parameter: [{ key: "size", value: "1g" }] };
  const driven = one({
    container_path: "/data",
    mode: "RO",
    source: { type: "DOCKER_VOLUME", docker_volume: { name: "vol", driver: "nfs", driver_options } },
  });
  assert.deepEqual(driven.create.HostConfig.Mounts, [
    {
      Type: "volume",
      Source: "vol",
      Target: "/data",
      ReadOnly: true,
      VolumeOptions: { DriverConfig: { Name: "nfs", Options: { size: "1g" } } },
    },
  ]);
  assert.deepEqual(one({ container_path: "/da:ta", host_path: "/s:rv", mode: "RO" }).create.HostConfig.Mounts, [
    { Type: "bind", Source: "/s:rv", Target: "/da:ta", ReadOnly: true },
  ]);

  const bad: Array<[object, string]> = [
    [{ container_path: "/data" }, "container.volumes.0"],
    [{ container_path: "rel", host_path: "rel" }, "host_path"],
    [{ container_path: "/data", source: { type: "SECRET" } }, "SECRET"],
    [{ container_path: "/data", source: { type: "CSI_VOLUME" } }, "source.type"],
    [{ container_path: "/data", source: { type: "DOCKER_VOLUME" } }, "docker_volume.name"],
    [{ container_path: "/data", source: { type: "SANDBOX_PATH", sandbox_path: { path: "../other" } } }, "inside the sandbox"],
    [{ container_path: "/data", source: { type: "SANDBOX_PATH", sandbox_path: { path: "/etc" } } }, "inside the sandbox"],
  ];
  for (const [volume, field] of bad) refuses(dockerTask({}, {}, { volumes: [volume] }), field);
});

test("CPU and memory are limited only where somebody asked for it, over all entries of a resource", () => {
  const resources = [scalar("cpus", 0.5), scalar("cpus", 1.5), scalar("mem", 100), scalar("mem", 28)];
  const limits = (options: object, fields: object = {}, docker: object = {}): object => {
    const { RestartPolicy: _, NetworkMode: __, ...rest } = plan(dockerTask(docker, { resources, ...fields }), options).create.HostConfig;
    return rest;
  };
  const MIB = 1024 * 1024;
  const burst = { limits: { cpus: { value: 4 }, mem: { value: 256 } } };
  const infinite = { limits: { cpus: { value: "Infinity" }, mem: { value: "Infinity" } } };
  const all = { forceCpuLimit: true, forceMemoryLimit: true };

  assert.deepEqual(limits({}), {});
  assert.deepEqual(limits({ useCpuShares: true }), {});
  assert.deepEqual(limits(all), { CpuPeriod: 50_000, CpuQuota: 100_000, Memory: 128 * MIB });
  assert.deepEqual(limits({ forceCpuLimit: true, useCpuShares: true }), { CpuShares: 512 });
  assert.deepEqual(limits({ forceCpuLimit: true, useCpuShares: true }, { resources: [scalar("cpus", 9)] }), { CpuShares: 1024 });
  assert.deepEqual(limits(all, { resources: [scalar("cpus", 0.001), scalar("mem", 1)] }), {
    CpuPeriod: 50_000,
    CpuQuota: 1000,
    Memory: 6 * MIB,
  });
  assert.deepEqual(limits(all, { resources: [] }), {});
  assert.deepEqual(limits({}, burst), {
    CpuShares: 2048,
    CpuQuota: 400_000,
    Memory: 256 * MIB,
    MemoryReservation: 128 * MIB,
    OomScoreAdj: 995,
  });
  assert.deepEqual(limits({ host: undefined }, burst), {
    CpuShares: 2048,
    CpuQuota: 400_000,
    Memory: 256 * MIB,
    MemoryReservation: 128 * MIB,
  });
  assert.deepEqual(limits(all, infinite), { CpuShares: 2048, MemoryReservation: 128 * MIB, OomScoreAdj: 995 });
  assert.deepEqual(limits({}, { limits: { mem: { value: 128 } } }), { Memory: 128 * MIB, MemoryReservation: 128 * MIB });
});

test("amounts that no machine has are a TASK_ERROR", () => {
  refuses(dockerTask({}, { resources: [scalar("cpus", -1)] }), "cpus");
  refuses(dockerTask({}, { resources: [scalar("mem", 1e300)] }), "mem");
  refuses(dockerTask({}, { limits: { cpus: { value: 1e12 } } }), "limits.cpus");
});

test("a docker parameter replaces the limit that follows from a resource", () => {
  const resources = [scalar("cpus", 1), scalar("mem", 128)];
  const host = (...parameters: object[]): object =>
    plan(dockerTask({ parameters }, { resources }), { ...PLAIN_OPTIONS, forceCpuLimit: true, forceMemoryLimit: true }).create.HostConfig;

  const withCpus = host(parameter("cpus", "2"), parameter("memory", "1g"));
  assert.deepEqual(withCpus, { RestartPolicy: { Name: "no" }, NetworkMode: "host", NanoCpus: 2e9, Memory: 1024 ** 3 });
  const withQuota = host(parameter("cpu-quota", "1000"), parameter("memory-reservation", "64m")) as Record<string, number>;
  assert.deepEqual(
    [withQuota.CpuQuota, withQuota.CpuPeriod, withQuota.Memory, withQuota.MemoryReservation],
    [1000, undefined, 128 * 1024 ** 2, 64 * 1024 ** 2],
  );
});

test("rlimits become ulimits, a parameter wins", () => {
  const rlimits = [{ type: "RLMT_NOFILE", soft: 10, hard: 20 }, { type: "RLMT_CORE" }];

  const { Ulimits } = plan(dockerTask({ parameters: [parameter("ulimit", "nofile=5:6")] }, {}, { rlimit_info: { rlimits } })).create
    .HostConfig;

  assert.deepEqual(Ulimits, [
    { Name: "nofile", Soft: 5, Hard: 6 },
    { Name: "core", Soft: -1, Hard: -1 },
  ]);
  const infinity = { rlimits: [{ type: "RLMT_NPROC", soft: 1, hard: 18446744073709551615n.toString() }] };
  assert.deepEqual(plan(dockerTask({}, {}, { rlimit_info: infinity })).create.HostConfig.Ulimits, [{ Name: "nproc", Soft: 1, Hard: -1 }]);
  refuses(dockerTask({}, {}, { rlimit_info: { rlimits: [{ type: "RLMT_FILES" }] } }), "rlimits.0.type");
});

test("the grace period: kill policy, stop-timeout parameter, setting", () => {
  const policy = { kill_policy: { grace_period: { nanoseconds: 1_500_000_000 } } };
  const stop = { parameters: [parameter("stop-timeout", "9")] };

  assert.equal(plan(dockerTask(stop, policy)).stopTimeoutMs, 1500);
  assert.equal(plan(dockerTask(stop)).stopTimeoutMs, 9000);
  assert.equal(plan(dockerTask(), { killTaskTimeoutMs: 0 }).stopTimeoutMs, 0);
  assert.equal(plan(dockerTask({}, { kill_policy: { grace_period: { nanoseconds: -0 } } })).stopTimeoutMs, 0);
  assert.equal(plan(dockerTask({}, policy)).labels["berth.stop-timeout-ms"], "1500");
});

test("names: ours, or the incumbent's", () => {
  assert.equal(plan(dockerTask(), { containerNames: "mesos" }).name, "mesos-e11b254a-dbfd-5315-9c88-dc5edbecf006");
});

test("privileged, forced pull and platform are taken over", () => {
  const made = plan(dockerTask({ privileged: true, force_pull_image: true, parameters: [parameter("platform", "linux/arm64")] }));

  assert.deepEqual([made.create.HostConfig.Privileged, made.forcePull, made.platform], [true, true, "linux/arm64"]);
});
