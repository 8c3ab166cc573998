/** What the planner makes, shown to a real engine. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { BUSYBOX_IMAGE, sharedDockerd } from "@berth/test-harness";
import Docker from "dockerode";
import { type ContainerPlan, createBody, planContainer } from "./container-plan.ts";
import { dockerTask, planInput } from "./fixtures/input.ts";

const parameter = (key: string, value: string): object => ({ key, value });

/** Every parameter that an engine without special hardware, drivers or kernel settings can create a container with. */
const PARAMETERS = [
  parameter("add-host", "db:10.0.0.1"),
  parameter("blkio-weight", "300"),
  parameter("cap-add", "NET_ADMIN"),
  parameter("cap-drop", "mknod"),
  parameter("cgroup-parent", "/berth-test"),
  parameter("cpu-shares", "512"),
  parameter("cpus", "0.5"),
  parameter("cpuset-cpus", "0"),
  parameter("cpuset-mems", "0"),
  parameter("device", "/dev/null:/dev/nothing:rw"),
  parameter("device-cgroup-rule", "c 1:3 rwm"),
  parameter("dns", "10.0.0.2"),
  parameter("dns-option", "ndots:2"),
  parameter("dns-search", "example.org"),
  parameter("domainname", "example.org"),
  parameter("entrypoint", "/bin/busybox"),
  parameter("env", "FROM_PARAMETER=a=b"),
  parameter("expose", "7000-7001/udp"),
  parameter("group-add", "1000"),
  parameter("health-cmd", "true"),
  parameter("health-interval", "5s"),
  parameter("hostname", "web-1"),
  parameter("init", "true"),
  parameter("ipc", "private"),
  parameter("label", "team=shop"),
  parameter("log-driver", "json-file"),
  parameter("log-opt", "max-size=1m"),
  parameter("mac-address", "92:d0:c6:0a:29:33"),
  parameter("memory", "64m"),
  parameter("memory-reservation", "32m"),
  parameter("mount", "type=tmpfs,target=/scratch,tmpfs-size=1m"),
  parameter("oom-score-adj", "300"),
  parameter("pids-limit", "100"),
  parameter("publish", "127.0.0.1::81"),
  parameter("read-only", "true"),
  parameter("runtime", "runc"),
  parameter("security-opt", "no-new-privileges"),
  parameter("shm-size", "1m"),
  parameter("stop-signal", "SIGINT"),
  parameter("stop-timeout", "9"),
  parameter("sysctl", "net.ipv4.ip_unprivileged_port_start=0"),
  parameter("tmpfs", "/run:size=1m"),
  parameter("ulimit", "nofile=100:200"),
  parameter("user", "1000:1000"),
  parameter("volume", "/anonymous"),
  parameter("workdir", "/srv"),
];

async function create(docker: Docker, plan: ContainerPlan): Promise<Docker.Container> {
  // The library's types demand fields of mounts that the engine's API leaves open.
  return docker.createContainer({ name: plan.name, ...createBody(plan, plan.environment) } as Docker.ContainerCreateOptions);
}

test("an engine takes a container with nearly every parameter, and shows what was asked for", async () => {
  await using engine = await sharedDockerd();
  const docker = new Docker({ socketPath: engine.api.socketPath });
  const sandbox = await mkdtemp(join(tmpdir(), "berth-plan-"));
  const task = dockerTask(
    {
      image: BUSYBOX_IMAGE,
      network: "BRIDGE",
      parameters: PARAMETERS,
      port_mappings: [{ host_port: 31999, container_port: 80, protocol: "tcp,udp" }],
    },
    {
      task_id: { value: `plan/${randomBytes(4).toString("hex")}` },
      command: { shell: false, value: "sh", arguments: ["-c", "true"], environment: { variables: [{ name: "A", value: "line\nbreak" }] } },
    },
    {
      volumes: [
        { container_path: "/from-sandbox", host_path: "logs", mode: "RO" },
        {
          container_path: "/v",
          mode: "RO",
          source: { type: "DOCKER_VOLUME", docker_volume: { name: "berth-plan-test", driver: "local" } },
        },
      ],
    },
  );
  const plan = planContainer(planInput(task, { mappedDirectory: "/mnt/mesos/sandbox" }, { sandbox }));

  const container = await create(docker, plan);
  try {
    const { Config, HostConfig, Name, Mounts } = await container.inspect();

    assert.equal(Name, `/${plan.name}`);
    const { Env, Labels, Entrypoint, Cmd, ExposedPorts, Hostname, Domainname, User, WorkingDir, StopSignal, Healthcheck } =
      Config as typeof Config & { StopSignal?: string };
    assert.deepEqual(
      plan.environment.filter(({ name, value }) => !Env.includes(`${name}=${value}`)),
      [],
    );
    assert.deepEqual(Labels, plan.labels);
    assert.deepEqual([Entrypoint, Cmd], [["/bin/busybox"], ["sh", "-c", "true"]]);
    assert.deepEqual(Object.keys(ExposedPorts).toSorted(), ["7000/udp", "7001/udp", "80/tcp", "80/udp", "81/tcp"]);
    assert.deepEqual([Hostname, Domainname, User, WorkingDir, StopSignal], ["web-1", "example.org", "1000:1000", "/srv", "SIGINT"]);
    assert.deepEqual(Healthcheck?.Test, ["CMD-SHELL", "true"]);
    assertAsked(plan.create.HostConfig as Record<string, unknown>, HostConfig as unknown as Record<string, unknown>);
    assert.deepEqual(Mounts.map(({ Destination, RW }) => `${Destination} ${RW ? "rw" : "ro"}`).toSorted(), [
      "/anonymous rw",
      "/from-sandbox ro",
      "/mnt/mesos/sandbox rw",
      "/scratch rw",
      "/v ro",
    ]);
  } finally {
    await container.remove({ force: true, v: true });
    await docker.getVolume("berth-plan-test").remove();
    await rm(sandbox, { recursive: true });
  }
});

/** Whatever the plan names, the engine shows it; what the plan leaves open, the engine fills in. */
function assertAsked(asked: Record<string, unknown>, shown: Record<string, unknown>): void {
  // A host without this cgroup controller makes the engine drop the value, with a warning.
  const dropped = ["BlkioWeight"];
  for (const [field, value] of Object.entries(asked)) {
    if (dropped.includes(field)) continue;
    if (field === "RestartPolicy") assert.equal((shown[field] as { Name: string }).Name, "no");
    else if (field === "Mounts")
      assert.deepEqual(
        (shown[field] as Array<{ Target: string }>).map(({ Target }) => Target),
        (value as Array<{ Target: string }>).map(({ Target }) => Target),
      );
    else assert.deepEqual(shown[field], value, field);
  }
}

test("a container of the image's own defaults, with the sandbox's path and task ids as Mesos makes them, runs", async () => {
  await using engine = await sharedDockerd();
  const docker = new Docker({ socketPath: engine.api.socketPath });
  const sandbox = await mkdtemp(join(tmpdir(), "berth-plan:colon-"));
  const id = `ct:42:0:${randomBytes(4).toString("hex")}:job with blanks`;
  const task = dockerTask(
    { image: BUSYBOX_IMAGE, network: "NONE" },
    { task_id: { value: id }, command: { value: `echo "$MESOS_SANDBOX" > "$MESOS_SANDBOX/seen"; exit 7` } },
  );
  const plan = planContainer(planInput(task, { mappedDirectory: "/mnt/mesos/sandbox" }, { sandbox }));

  const container = await create(docker, plan);
  try {
    await container.start();
    const { StatusCode } = (await container.wait()) as { StatusCode: number };

    assert.equal(StatusCode, 7);
    assert.equal((await readFile(join(sandbox, "seen"), "utf8")).trim(), "/mnt/mesos/sandbox");
  } finally {
    await container.remove({ force: true, v: true });
    await rm(sandbox, { recursive: true });
  }
});
