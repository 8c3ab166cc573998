import { isIP } from "node:net";
import { protocolsOf } from "../acl/acl-labels.ts";
import type { Family, Firewall, OwnChain } from "../acl/firewall.ts";
import { chainName } from "../acl/rules.ts";
import type { DnatConfig } from "../config.ts";
import type { Hook, HookContext, HookTask } from "../lifecycle.ts";

/**
 * Publishes a container's ports by address translation, for a dockerd that leaves the packet filter alone (`--iptables=false`).
 * With a dockerd that does it itself this would be done twice.
 */
export function dnatHook(config: DnatConfig, host: Firewall): Hook {
  async function afterStart(task: HookTask, { signal, log }: HookContext): Promise<undefined> {
    if (!hasMappings(task)) return;
    for (const family of host.families) {
      const addresses = (task.addresses ?? []).filter(({ protocol }) => protocol === family).map(({ address }) => address);
      const chains = addresses.filter((address) => isIP(address) !== 0).length === 0 ? [] : chainsOf(task, family, addresses, config);
      if (chains.length > 0) await host.put(family, chains, signal);
      else log.debug({ family }, "the container has no address of this family: no ports are published for it");
    }
  }

  async function afterStop(task: HookTask, { signal }: HookContext): Promise<undefined> {
    if (!hasMappings(task)) return;
    const names = (["dnat", "masquerade", "forward"] as const).map((kind) => chainName(task.identity, kind));
    for (const family of host.families) await host.remove(family, names, signal);
  }

  return {
    name: "dnat",
    priority: 300,
    timeoutMs: 30_000,
    failsTask: true,
    stages: { afterStart, afterStop },
    describe: (task) => (hasMappings(task) ? "publish the mapped ports by address translation" : undefined),
  };
}

function hasMappings({ runtime, task }: HookTask): boolean {
  const docker = task.container?.docker;
  if (runtime !== "docker" || docker === undefined) return false;
  return (docker.network === "BRIDGE" || docker.network === "USER") && docker.port_mappings.some(({ host_port }) => host_port !== 0);
}

function chainsOf({ identity, task }: HookTask, family: Family, addresses: readonly string[], config: DnatConfig): OwnChain[] {
  const bridge = config.containerBridgeInterface;
  const dnat: string[] = [];
  const masquerade: string[] = [];
  const forward: string[] = [];
  const longest = family === "IPv4" ? 32 : 128;
  for (const address of addresses) {
    masquerade.push(`-s ${address}/${longest} ! -o ${bridge} -j MASQUERADE`);
    for (const { host_port, container_port, protocol: written } of task.container?.docker?.port_mappings ?? []) {
      if (host_port === 0) continue;
      for (const protocol of protocolsOf(written)) {
        const target = family === "IPv4" ? `${address}:${container_port}` : `[${address}]:${container_port}`;
        dnat.push(`! -i ${bridge} -p ${protocol} -m ${protocol} --dport ${host_port} -j DNAT --to-destination ${target}`);
        // A container that reaches itself by the host's port must not see its own address as the client's.
        masquerade.push(
          `-s ${address}/${longest} -d ${address}/${longest} -p ${protocol} -m ${protocol} --dport ${container_port} -j MASQUERADE`,
        );
        forward.push(
          `-d ${address}/${longest} ! -i ${bridge} -o ${bridge} -p ${protocol} -m ${protocol} --dport ${container_port} -j ACCEPT`,
        );
        forward.push(
          `-s ${address}/${longest} -i ${bridge} ! -o ${bridge} -p ${protocol} -m ${protocol} --sport ${container_port} -j ACCEPT`,
        );
      }
    }
  }
  const { prerouting, postrouting, forward: forwarding } = config.chains;
  const local = "-m addrtype --dst-type LOCAL";
  return [
    { table: "nat", name: chainName(identity, "dnat"), rules: dnat, jumps: [{ from: prerouting, match: local }] },
    ...(config.ipMasquerading
      ? [{ table: "nat" as const, name: chainName(identity, "masquerade"), rules: masquerade, jumps: [{ from: postrouting, match: "" }] }]
      : []),
    ...(config.ipForwarding
      ? [{ table: "filter" as const, name: chainName(identity, "forward"), rules: forward, jumps: [{ from: forwarding, match: "" }] }]
      : []),
  ];
}
