import assert from "node:assert/strict";
import { test } from "node:test";
import { fromGoMesosConfig } from "./go-mesos-config.ts";

test("go-mesos-executor's keys become Berth's, and each that cannot is told", () => {
  const { config, notes, procPath } = fromGoMesosConfig(`
debug: true
hooks: [removeContainer, ACL, iptables, netns, other]
proc_path: /mnt/proc
acl:
  chain: ACL-IN
  external_interface: all
  default_allowed_cidr: [10.0.0.0/8]
iptables:
  chains: { prerouting: P, forward: F, postrouting: Q }
  container_bridge_interface: docker1
  ip_masquerading: false
netns:
  path: /run/ns
`);

  assert.deepEqual(config.hooks, ["removeContainer", "acl", "dnat", "netns"]);
  assert.deepEqual(config.acl, { chain: "ACL-IN", defaultAllowedCidr: ["10.0.0.0/8"], allowGateway: false });
  assert.deepEqual(config.iptables.chains, { prerouting: "P", forward: "F", postrouting: "Q" });
  assert.equal(config.iptables.containerBridgeInterface, "docker1");
  assert.equal(config.iptables.ipMasquerading, false);
  assert.equal(config.netns.path, "/run/ns");
  assert.equal(procPath, "/mnt/proc");
  assert.ok(notes.some((note) => note.startsWith("debug: no effect")));
  assert.ok(notes.some((note) => note.includes("'other'")));
});

test("an empty file is a file without hooks; a wrong type is named", () => {
  assert.deepEqual(fromGoMesosConfig("").config.hooks, []);
  assert.throws(() => fromGoMesosConfig("iptables: { ip_forwarding: maybe }"), /ip_forwarding/);
});
