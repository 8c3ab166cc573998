import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readlinkSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { tempDir, waitFor } from "@berth/test-harness";
import { Firewall } from "../acl/firewall.ts";
import { inside, isRoot, reaches, startTestHost } from "../acl/firewall-test-kit.ts";
import { DnatConfig, NetnsConfig, NetworkConfig } from "../config.ts";
import { ENDED, hookTask, TestSupervisor } from "../test-kit.ts";
import { dnatHook } from "./dnat-hook.ts";
import { netnsHook } from "./netns-hook.ts";
import { networkHook } from "./network-hook.ts";

const skip = isRoot ? false : "network namespaces need root";

test("netns: the link leads into the task's namespace, survives a repeat, and goes with the task", async () => {
  await using folder = await tempDir();
  const path = join(folder.path, "netns");
  const hook = () => netnsHook(NetnsConfig.parse({ path }), "/proc");
  const task = { ...hookTask(), pid: process.pid };
  const link = join(path, task.identity.taskId);
  const supervisor = new TestSupervisor(hook());

  await supervisor.run("afterStart", task);
  await supervisor.run("afterStart", task);
  assert.equal(readlinkSync(link), `/proc/${process.pid}/ns/net`);

  await supervisor.run("afterStop", { ...task, stop: ENDED });
  await supervisor.run("afterStop", { ...task, stop: ENDED });
  assert.equal(existsSync(link), false);
  assert.deepEqual(supervisor.warnings, []);
});

test("netns: the reaper removes a link that leads nowhere, and leaves that of a newer run", async () => {
  await using folder = await tempDir();
  const hook = () => netnsHook(NetnsConfig.parse({ path: folder.path }), "/proc");
  const task = hookTask();
  const link = join(folder.path, task.identity.taskId);
  const isThere = () => readlinkSync(link, "utf8");

  symlinkSync(`/proc/${process.pid}/ns/net`, link);
  await new TestSupervisor(hook()).run("afterStop", { ...task, stop: ENDED });
  assert.equal(isThere(), `/proc/${process.pid}/ns/net`);

  const gone = { ...task, identity: { ...task.identity, taskId: "gone" } };
  symlinkSync("/proc/4194305/ns/net", join(folder.path, "gone"));
  await new TestSupervisor(hook()).run("afterStop", { ...gone, stop: ENDED });
  assert.throws(() => readlinkSync(join(folder.path, "gone")), { code: "ENOENT" });
});

test("netns: a task id never leads out of the folder", async () => {
  await using folder = await tempDir();
  for (const taskId of ["../../etc/x", "..", "a/b"]) {
    const task = { ...hookTask(), pid: process.pid };
    const said = netnsHook(NetnsConfig.parse({ path: folder.path }), "/proc").describe({ ...task, identity: { ...task.identity, taskId } });
    assert.match(said ?? "", new RegExp(`as ${folder.path}/[^/]+$`));
  }
});

test("network: every Docker task gets the host's choice, named after its framework where that is said", async () => {
  const docker = { type: "DOCKER", docker: { image: "x", network: "HOST", port_mappings: [{ host_port: 1, container_port: 2 }] } };
  const task = hookTask({ container: { ...docker, network_infos: [{ name: "own" }] } }, { frameworkName: "marathon" });

  const named = await new TestSupervisor(networkHook(NetworkConfig.parse({}))).run("beforeCreate", task);
  assert.equal(named.task.container?.docker?.network, "USER");
  assert.deepEqual(
    named.task.container?.network_infos.map(({ name }) => name),
    ["marathon"],
  );
  assert.deepEqual(named.task.container?.docker?.port_mappings, [{ host_port: 1, container_port: 2 }]);

  const bridge = await new TestSupervisor(networkHook(NetworkConfig.parse({ mode: "BRIDGE" }))).run("beforeCreate", task);
  assert.equal(bridge.task.container?.docker?.network, "BRIDGE");

  const command = hookTask({ command: { value: "true" } }, { runtime: "process" });
  assert.equal((await new TestSupervisor(networkHook(NetworkConfig.parse({}))).run("beforeCreate", command)).task, command.task);
  const { frameworkName, ...nameless } = task;
  assert.equal(frameworkName, "marathon");
  await assert.rejects(new TestSupervisor(networkHook(NetworkConfig.parse({}))).run("beforeCreate", nameless), /set network\.name/);
});

test("dnat: published ports are reached from outside, the container reaches out, and no rule is left", { skip }, async () => {
  await using host = await startTestHost();
  // A container as dockerd without iptables leaves it: on a bridge, and nobody translates for it.
  const container = spawn("unshare", ["--net", "sleep", "300"]);
  try {
    const pid = container.pid as number;
    await waitFor(() => readlinkSync(`/proc/${pid}/ns/net`) !== readlinkSync("/proc/self/ns/net"));
    const own = (...argv: string[]) => inside(host.name, "nsenter", `--net=/proc/${pid}/ns/net`, ...argv);
    await inside(host.name, "ip", "link", "add", "br0", "type", "bridge");
    await inside(host.name, "ip", "link", "add", "port0", "type", "veth", "peer", "name", "eth0", "netns", String(pid));
    for (const args of [
      "address add 10.78.0.1/24 dev br0",
      "address add fd78::1/64 dev br0 nodad",
      "link set br0 up",
      "link set port0 master br0 up",
    ]) {
      await inside(host.name, "ip", ...args.split(" "));
    }
    for (const args of [
      "address add 10.78.0.2/24 dev eth0",
      "address add fd78::2/64 dev eth0 nodad",
      "link set eth0 up",
      "link set lo up",
    ]) {
      await own("ip", ...args.split(" "));
    }
    await own("ip", "route", "add", "default", "via", "10.78.0.1");
    await own("ip", "route", "add", "default", "via", "fd78::1");
    const httpd = spawn("nsenter", [`--net=/proc/${pid}/ns/net`, "/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/etc"]);
    // What the hook makes last in nat stays as an empty table, which is no rule.
    const untouched = await host.rules();
    const task = hookTask(
      {
        container: { type: "DOCKER", docker: { image: "x", network: "BRIDGE", port_mappings: [{ host_port: 8001, container_port: 80 }] } },
      },
      {
        addresses: [
          { network: "bridge", protocol: "IPv4", address: "10.78.0.2" },
          { network: "bridge", protocol: "IPv6", address: "fd78::2" },
        ],
      },
    );
    const hook = () => dnatHook(DnatConfig.parse({ containerBridgeInterface: "br0" }), new Firewall(host.path));
    try {
      assert.equal(await reaches(host.friend, host.address, 8001), false);
      await new TestSupervisor(hook()).runAndDie("afterStart", task);
      const rules = await host.rules();
      await new TestSupervisor(hook()).run("afterStart", task);
      assert.equal(await host.rules(), rules, "twice is once");

      await waitFor(() => reaches(host.friend, host.address, 8001));
      await waitFor(() => reaches(host.friend, host.address6, 8001));
      assert.equal(await reaches(host.friend, host.address, 80), false, "only the published port");

      const supervisor = new TestSupervisor(hook());
      await supervisor.runAndDie("afterStop", { ...task, stop: ENDED });
      await supervisor.run("afterStop", { ...task, stop: ENDED });
      assert.equal(await host.rules(), untouched);
      assert.equal(await reaches(host.friend, host.address, 8001), false);
    } finally {
      httpd.kill("SIGKILL");
    }
  } finally {
    container.kill("SIGKILL");
  }
});
