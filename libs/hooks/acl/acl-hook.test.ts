import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { BUSYBOX_IMAGE, waitFor } from "@berth/test-harness";
import { AclConfig } from "../config.ts";
import type { HookTask } from "../lifecycle.ts";
import { ENDED, hookTask, labels, TestSupervisor } from "../test-kit.ts";
import { aclHook } from "./acl-hook.ts";
import { plannedAcl } from "./acl-labels.ts";
import { Firewall } from "./firewall.ts";
import { type BridgedDockerd, inside, isRoot, reaches, startBridgedDockerd, startTestHost, type TestHost } from "./firewall-test-kit.ts";

describe("with a dockerd that publishes ports", { skip: isRoot ? false : "network namespaces need root" }, () => {
  let host: TestHost;
  let dockerd: BridgedDockerd;
  let firewall: Firewall;
  let untouched: string;
  before(async () => {
    host = await startTestHost();
    dockerd = await startBridgedDockerd(host);
    firewall = new Firewall(host.path);
    untouched = await host.rules();
  });
  after(async () => {
    await dockerd?.[Symbol.asyncDispose]();
    await host?.[Symbol.asyncDispose]();
  });

  const hook = (config: object = {}) => aclHook({ config: AclConfig.parse(config), host: firewall, procPath: "/proc" });

  function taskWith(taskLabels: Record<string, string>): HookTask {
    const docker = {
      image: "x",
      network: "BRIDGE",
      port_mappings: [
        { host_port: 8001, container_port: 80 },
        { host_port: 8002, container_port: 81 },
      ],
    };
    return hookTask({ ...labels(taskLabels), container: { type: "DOCKER", docker } });
  }

  async function createContainer(): Promise<string> {
    const { Id } = await dockerd.api.call<{ Id: string }>("POST", "/containers/create", {
      Image: BUSYBOX_IMAGE,
      Cmd: ["sh", "-c", "httpd -p 81 -h /etc; exec httpd -f -p 80 -h /etc"],
      ExposedPorts: { "80/tcp": {}, "81/tcp": {} },
      HostConfig: { Init: true, PortBindings: { "80/tcp": [{ HostPort: "8001" }], "81/tcp": [{ HostPort: "8002" }] } },
    });
    return Id;
  }
  async function start(id: string): Promise<{ pid: number; address: string }> {
    await dockerd.api.call("POST", `/containers/${id}/start`);
    const { State, NetworkSettings } = await dockerd.api.call<{ State: { Pid: number }; NetworkSettings: { IPAddress: string } }>(
      "GET",
      `/containers/${id}/json`,
    );
    return { pid: State.Pid, address: NetworkSettings.IPAddress };
  }
  afterEach(async () => {
    const left = await dockerd.api.call<Array<{ Id: string }>>("GET", "/containers/json?all=1");
    for (const { Id } of left) await remove(Id);
  });
  const remove = (id: string) => dockerd.api.call("DELETE", `/containers/${id}?force=1`);

  test("EXECUTOR_ALLOWED_IP: listed sources arrive, others do not, by neither family, before and after a supervisor's restart", async () => {
    const task = taskWith({ EXECUTOR_ALLOWED_IP: `${host.friend.address}, fd77:1::/64` });
    const supervisor = new TestSupervisor(hook());
    const id = await createContainer();

    await supervisor.run("beforeStart", task);
    const { pid, address } = await start(id);
    // Between start and afterStart: the published ports are closed already.
    await waitFor(() => reaches(host.friend, host.address, 8001));
    assert.equal(await reaches(host.stranger, host.address, 8001), false, "in the window");
    // A new address takes a while to be looked for by its neighbours.
    await waitFor(() => reaches(host.friend, host.address6, 8001));
    assert.equal(await reaches(host.stranger, host.address6, 8001), false, "in the window, by IPv6");

    const running = { ...task, pid };
    await supervisor.run("afterStart", running);
    for (const life of ["first", "second"]) {
      assert.equal(await reaches(host.friend, host.address, 8001), true, `${life}: friend`);
      assert.equal(await reaches(host.friend, host.address, 8002), true, `${life}: friend, second port`);
      assert.equal(await reaches(host.friend, host.address6, 8001), true, `${life}: friend by IPv6`);
      assert.equal(await reaches(host.stranger, host.address, 8001), false, `${life}: stranger`);
      assert.equal(await reaches(host.stranger, host.address6, 8001), false, `${life}: stranger by IPv6`);
      // Past the published ports, straight to the container's address.
      assert.equal(await reaches({ namespace: host.name }, address, 80), false, `${life}: the gateway`);
      // The next supervisor runs the stages again.
      const next = new TestSupervisor(hook());
      await next.run("beforeStart", task);
      await next.run("afterStart", running);
    }
    // The container still reaches others, and itself.
    const shell = ["nsenter", `--net=/proc/${pid}/ns/net`, "bash", "-c"];
    await inside(host.name, ...shell, "exec 3<>/dev/tcp/127.0.0.1/80");

    await remove(id);
    await supervisor.run("afterStop", { ...task, stop: ENDED });
    assert.equal(await host.rules(), untouched);
  });

  test("the gateway is let in where the section says so", async () => {
    const task = taskWith({ EXECUTOR_ALLOWED_IP: "192.0.2.1" });
    const supervisor = new TestSupervisor(hook({ allowGateway: true }));
    const id = await createContainer();
    await supervisor.run("beforeStart", task);
    const { pid, address } = await start(id);

    await supervisor.run("afterStart", { ...task, pid });

    // The server in the container may just be starting.
    await waitFor(() => reaches({ namespace: host.name }, address, 80), { what: "the gateway's way in" });
    assert.equal(await reaches(host.stranger, host.address, 8001), false);
    await remove(id);
    await supervisor.run("afterStop", { ...task, stop: ENDED });
    assert.equal(await host.rules(), untouched);
  });

  test("EXECUTOR_<n>_ACL filters forwarded traffic of that port; the default list adds to it, and closes the others", async () => {
    const task = taskWith({ EXECUTOR_0_ACL: `${host.friend.address}/32,${host.friend.address6}`, XEXECUTOR_1_ACL: "no label of ours" });
    const open = new TestSupervisor(hook());
    const id = await createContainer();
    await open.run("beforeStart", task);
    const { address } = await start(id);
    const addresses = [{ network: "bridge", protocol: "IPv4" as const, address }];
    await waitFor(() => reaches(host.stranger, address, 80));
    await open.run("afterStart", { ...task, addresses });
    assert.equal(await reaches(host.stranger, address, 80), false, "past the published port, by the container's address");
    assert.equal(await reaches(host.stranger, address, 81), true, "no list, no filter, by the container's address");
    assert.equal(await reaches(host.friend, address, 80), true);

    await waitFor(() => reaches(host.friend, host.address, 8001));
    assert.equal(await reaches(host.stranger, host.address, 8001), false);
    assert.equal(await reaches(host.stranger, host.address6, 8001), false);
    assert.equal(await reaches(host.stranger, host.address, 8002), true, "no list, no filter");
    assert.equal(await reaches(host.stranger, host.address6, 8002, 5), true, "no list, no filter, by IPv6");

    const closed = new TestSupervisor(hook({ defaultAllowedCidr: ["10.77.2.0/24"] }));
    await closed.run("beforeStart", task);
    await closed.run("afterStart", { ...task, addresses });
    assert.equal(await reaches(host.stranger, host.address, 8001), true, "the default list is added");
    assert.equal(await reaches(host.friend, host.address, 8002), false, "only the default list");

    await remove(id);
    await closed.run("afterStop", { ...task, stop: ENDED });
    assert.equal(await host.rules(), untouched);
  });

  for (const point of ["before", "during", "after"] as const) {
    test(`the supervisor dies ${point} the rules are put in, and ${point} they are taken out: none is left, by the labels alone`, async () => {
      const task = taskWith({ EXECUTOR_ALLOWED_IP: "10.0.0.1", EXECUTOR_0_ACL: "10.0.0.0/8" });
      const first = new TestSupervisor(hook());
      if (point === "during") await first.dieDuring("beforeStart", task, 5);
      if (point === "after") await first.runAndDie("beforeStart", task);
      await new TestSupervisor(hook()).run("beforeStart", task);
      const rules = await host.rules();
      await new TestSupervisor(hook()).run("beforeStart", task);
      assert.equal(await host.rules(), rules, "twice is once");
      assert.notEqual(rules, untouched);

      const stopping = { ...task, stop: ENDED };
      const second = new TestSupervisor(hook());
      if (point === "during") await second.dieDuring("afterStop", stopping, 5);
      if (point === "after") await second.runAndDie("afterStop", stopping);
      const third = new TestSupervisor(hook());
      await third.run("afterStop", stopping);
      await third.run("afterStop", stopping);
      assert.equal(await host.rules(), untouched);
      assert.deepEqual(third.warnings, []);
    });
  }

  test("many tasks at once: every one has its rules, and the last one leaves none", async () => {
    const tasks = Array.from({ length: 12 }, () => taskWith({ EXECUTOR_0_ACL: "10.0.0.0/8,fd00::/8" }));
    const supervisor = new TestSupervisor(hook());
    await Promise.all(tasks.map((task) => supervisor.run("beforeStart", task)));
    const lines = (await host.rules()).split("\n").filter((line) => / -j BERTH-/.test(line));
    assert.equal(lines.length, tasks.length * 2 * 2, "two jumps per task and family");

    await Promise.all(tasks.map((task) => supervisor.run("afterStop", { ...task, stop: ENDED })));

    assert.equal(await host.rules(), untouched);
  });
});

test("a list that cannot be read, or cannot be obeyed, fails the task", () => {
  const bridge = { type: "DOCKER", docker: { image: "x", network: "BRIDGE", port_mappings: [{ host_port: 1, container_port: 1 }] } };
  const plan = (entries: Record<string, string>, container: object = bridge) =>
    plannedAcl(hookTask({ ...labels(entries), container }).task, { defaultAllowedCidr: [] });

  assert.throws(() => plan({ EXECUTOR_ALLOWED_IP: "10.0.0.1,nonsense" }), /EXECUTOR_ALLOWED_IP: 'nonsense' is neither/);
  for (const bad of ["10.0.0.0/33", "fd00::/129", "10.0.0.1/", "1.2.3.4/8/8", "fe80::1%eth0", "", "-j ACCEPT", "10.0.0.1 -j ACCEPT"]) {
    assert.throws(() => plan({ EXECUTOR_0_ACL: bad }), /neither an IP address nor a CIDR/, bad);
  }
  assert.throws(() => plan({ EXECUTOR_1_ACL: "10.0.0.1" }), /the task has 1 port mappings, counted from 0/);
  assert.throws(
    () => plan({ EXECUTOR_ALLOWED_IP: "10.0.0.1" }, { type: "DOCKER", docker: { image: "x", network: "HOST" } }),
    /can be closed off/,
  );
  assert.deepEqual(plan({ EXECUTOR_ALLOWED_IP: " " }), { ports: [], guard: [] });
  assert.deepEqual(plan({ EXECUTOR_ALLOWED_IP: "10.0.0.1" }, { type: "DOCKER", docker: { image: "x", network: "NONE" } }), {
    ports: [],
    guard: [],
  });
});

test("a task without lists costs no call of iptables, and none where it cannot be run", async () => {
  const broken = aclHook({ config: AclConfig.parse({}), host: new Firewall("/nonexistent"), procPath: "/proc" });
  const supervisor = new TestSupervisor(broken);
  const task = hookTask({
    container: { type: "DOCKER", docker: { image: "x", network: "BRIDGE", port_mappings: [{ host_port: 1, container_port: 1 }] } },
  });

  for (const stage of ["beforeCreate", "beforeStart", "afterStart", "afterStop"] as const) await supervisor.run(stage, task);

  assert.deepEqual(supervisor.warnings, []);
});
