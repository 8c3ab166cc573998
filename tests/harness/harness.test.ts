import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { test } from "node:test";
import {
  BUSYBOX_IMAGE,
  type DockerApi,
  freePort,
  sharedDockerd,
  skipWithout,
  startConsul,
  startDockerd,
  startLogSink,
  startRedis,
  startRegistry,
  startSidecar,
  startVault,
  waitFor,
} from "./index.ts";

interface Inspect {
  State: { Running: boolean; ExitCode: number; Pid: number };
}

async function runContainer(api: DockerApi, config: object): Promise<string> {
  const { Id } = await api.call<{ Id: string }>("POST", "/containers/create", { Image: BUSYBOX_IMAGE, ...config });
  await api.call("POST", `/containers/${Id}/start`);
  return Id;
}

const inspect = (api: DockerApi, id: string): Promise<Inspect> => api.call<Inspect>("GET", `/containers/${id}/json`);

test("a private dockerd runs containers, publishes ports, and leaves nothing behind", async () => {
  const docker = await startDockerd();
  const port = await freePort();
  const Cmd = ["sh", "-c", "mkdir /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w"];
  const HostConfig = { PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: String(port) }] } };
  await runContainer(docker.api, { Cmd, HostConfig, ExposedPorts: { "80/tcp": {} } });
  const text = await waitFor(async () => (await fetch(`http://127.0.0.1:${port}/`)).text());
  const pid = docker.pid();

  await docker.stop();

  assert.equal(text, "hello\n");
  assert.equal(existsSync(`/proc/${pid}`), false);
  assert.equal(existsSync(docker.api.socketPath), false);
});

test("without live restore a killed dockerd's containers end with it; with it they run on", async () => {
  for (const liveRestore of [false, true]) {
    await using docker = await startDockerd({ liveRestore });
    const id = await runContainer(docker.api, { Cmd: ["sleep", "600"], StopSignal: "SIGKILL" });
    const before = await inspect(docker.api, id);

    await docker.kill();
    const survived = existsSync(`/proc/${before.State.Pid}`);
    await docker.start();
    const after = await inspect(docker.api, id);

    assert.equal(survived, true);
    assert.equal(after.State.Running, liveRestore);
    if (liveRestore) assert.equal(after.State.Pid, before.State.Pid);
  }
});

test("a registry asks for its password", async () => {
  await using docker = await sharedDockerd();
  await using registry = await startRegistry();
  const image = await registry.push(docker.host, "harness/app");
  const pull = `/images/create?fromImage=${encodeURIComponent(image)}`;

  await assert.rejects(docker.api.call("POST", pull), /no basic auth credentials/);
  const progress = await docker.api.call("POST", pull, undefined, { "X-Registry-Auth": registry.login() });
  await docker.api.call("DELETE", `/images/${image}`);

  assert.match(String(progress), /Downloaded newer image/);
});

test("Redis answers on its socket and its port", async () => {
  await using redis = await startRedis();

  const answers = await Promise.all([ask({ port: redis.port, host: "127.0.0.1" }), ask({ path: redis.socketPath })]);

  assert.deepEqual(answers, ["+PONG", "+PONG"]);
});

function ask(where: { port: number; host: string } | { path: string }): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(where, () => socket.write("PING\r\n"));
    socket.on("error", reject).on("data", (data) => {
      socket.destroy();
      resolve(data.toString().trim());
    });
  });
}

test("Vault keeps a secret and refuses a stranger", { skip: skipWithout("vaultdev") }, async () => {
  await using vault = await startVault();
  await vault.call("POST", "secret/data/app", { data: { value: "kept" } });

  const read = await vault.call("GET", "secret/data/app");
  const denied = await vault.call("GET", "secret/data/app", undefined, "stranger");

  assert.equal((read.body as { data: { data: { value: string } } }).data.data.value, "kept");
  assert.equal(denied.status, 403);
});

test("Consul registers a service", { skip: skipWithout("consul") }, async () => {
  await using consul = await startConsul();
  await fetch(`${consul.address}/v1/agent/service/register`, { method: "PUT", body: JSON.stringify({ Name: "web", Port: 80 }) });

  const services = await (await fetch(`${consul.address}/v1/agent/services`)).json();

  assert.deepEqual(Object.keys(services as object), ["web"]);
});

test("the log sink tells JSON from what is none, over TCP and UDP", async () => {
  await using sink = await startLogSink();
  const tcp = connect(sink.port, "127.0.0.1");
  const udp = createSocket("udp4");
  tcp.end('{"n":1}\nnot json\n');
  udp.send('{"n":2}', sink.port, "127.0.0.1", () => udp.close());

  const events = await waitFor(async () => {
    const seen = await sink.events();
    return seen.length === 2 && seen;
  });
  const bad = await waitFor(async () => {
    const seen = await sink.bad();
    return seen.length > 0 && seen;
  });

  assert.deepEqual(events.map(({ input, event }) => `${input} ${event.n}`).sort(), ["imtcp 1", "imudp 2"]);
  assert.deepEqual(bad, ["not json"]);
});

test("two Sidecars run at once, each sees the labelled containers and checks their published ports", {
  skip: skipWithout("sidecar"),
}, async () => {
  await using docker = await sharedDockerd();
  await using first = await startSidecar({ dockerHost: docker.host });
  await using second = await startSidecar();
  const port = await freePort();
  const id = await runContainer(docker.api, {
    Cmd: ["sh", "-c", "mkdir /w; echo ok > /w/index.html; exec httpd -f -p 80 -h /w"],
    Labels: {
      ServiceName: "harness",
      HealthCheck: "HttpGet",
      HealthCheckArgs: "http://{{ host }}:{{ tcp 9999 }}/",
      ServicePort_80: "9999",
    },
    ExposedPorts: { "80/tcp": {} },
    HostConfig: { PortBindings: { "80/tcp": [{ HostPort: String(port) }] } },
  });
  try {
    const alive = await waitFor(
      async () => {
        const state = (await (await fetch(`${first.address}/state.json`)).json()) as {
          Servers: Record<string, { Services: Record<string, { Status: number }> }>;
        };
        return Object.values(state.Servers).some((server) => server.Services[id.slice(0, 12)]?.Status === 0);
      },
      { what: "Sidecar to call the service alive" },
    );
    const other = (await (await fetch(`${second.address}/state.json`)).json()) as { Servers: object };

    assert.equal(alive, true);
    assert.deepEqual(other.Servers, {});
  } finally {
    await docker.api.call("DELETE", `/containers/${id}?force=1`);
  }
});

test("a condition that never holds is named in the error, with its cause", async () => {
  const never = (): never => {
    throw new Error("connection refused");
  };

  await assert.rejects(waitFor(never, { deadline: 50, what: "the impossible" }), /50 ms in vain for the impossible: connection refused/);
});
