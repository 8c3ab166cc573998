import { readlink } from "node:fs/promises";
import { TaskFailure } from "@berth/mesos";
import type { AclConfig } from "../config.ts";
import type { Hook, HookContext, HookResult, HookTask } from "../lifecycle.ts";
import { type PlannedAcl, plannedAcl } from "./acl-labels.ts";
import { bothOf } from "./addresses.ts";
import { type Family, Firewall, type OwnChain } from "./firewall.ts";
import { gatewaysOf } from "./gateway.ts";
import { chainName, directChain, insideChain, type PortRule, portChain } from "./rules.ts";

export interface AclParts {
  config: AclConfig;
  /** Of the namespace where dockerd publishes ports. Shared with other hooks: it keeps their changes apart. */
  host: Firewall;
  procPath: string;
}

/**
 * Who may connect to a task. The published ports are filtered on the host before the container starts. A container's own
 * namespace is there only once it runs: for EXECUTOR_ALLOWED_IP it is closed right after the start, and until then the host
 * already keeps all others from the published ports (docs/hooks.md has what is left open).
 *
 * INVARIANTS: chain names follow from the task's ids; putting rules in twice leaves one; what afterStop takes out needs no state.
 */
export function aclHook({ config, host, procPath }: AclParts): Hook {
  async function beforeStart(task: HookTask, { signal }: HookContext): Promise<HookResult | undefined> {
    const plan = plannedAcl(task.task, config);
    if (plan.ports.length === 0 && plan.guard.length === 0) return undefined;
    for (const family of host.families) {
      const from = await entrance(family, signal);
      const chains: OwnChain[] = [];
      if (plan.ports.length > 0) chains.push(portChain(chainName(task.identity, "ports"), family, plan.ports, from));
      if (plan.guard.length > 0) chains.push(portChain(chainName(task.identity, "guard"), family, plan.guard, { forward: from.forward }));
      await host.put(family, chains, signal);
    }
    return { state: { filtered: true } };
  }

  /** Where forwarded packets come by first. */
  async function entrance(family: Family, signal: AbortSignal): Promise<{ forward: string; externalInterface?: string }> {
    const forward = (await host.has(family, "filter", config.chain, signal)) ? config.chain : "FORWARD";
    return { forward, ...(config.externalInterface === undefined ? {} : { externalInterface: config.externalInterface }) };
  }

  async function closeOwnAddresses(task: HookTask, ports: readonly PortRule[], signal: AbortSignal): Promise<void> {
    for (const family of host.families) {
      const addresses = (task.addresses ?? []).filter(({ protocol }) => protocol === family).map(({ address }) => address);
      if (ports.length === 0 || addresses.length === 0) continue;
      const to = { addresses, ...(await entrance(family, signal)) };
      await host.put(family, [directChain(chainName(task.identity, "direct"), family, ports, to)], signal);
    }
  }

  /** By the state, or by the labels where a supervisor knows nothing else: a host without any list runs no iptables at all. */
  function mayHaveRules(task: HookTask, state: unknown): boolean {
    if (task.runtime !== "docker") return false;
    if (state !== undefined) return true;
    try {
      const { ports, guard } = plannedAcl(task.task, config);
      return ports.length > 0 || guard.length > 0;
    } catch {
      return false; // Refused before anything was made.
    }
  }

  async function afterStart(task: HookTask, { signal, log }: HookContext): Promise<undefined> {
    const { inside, ports } = plannedAcl(task.task, config);
    await closeOwnAddresses(task, ports, signal);
    if (inside === undefined) return;
    if (task.pid === undefined) throw new TaskFailure("label EXECUTOR_ALLOWED_IP: the container has no process to find its network by");
    const namespace = `${procPath}/${task.pid}/ns/net`;
    if ((await readlink(namespace)) === (await readlink("/proc/self/ns/net"))) {
      throw new TaskFailure("label EXECUTOR_ALLOWED_IP: the container is in the host's network, which is not closed for a task");
    }
    const allowed = config.allowGateway ? bothOf(inside, await gatewaysOf(task.pid, procPath)) : inside;
    const name = chainName(task.identity, "inside");
    // At the same time, so each family by a firewall of its own: what is closed for one only is open.
    await Promise.all(host.families.map((family) => new Firewall(namespace).put(family, [insideChain(name, family, allowed)], signal)));
    log.info({ allowed }, "the container's network is closed but for these");
  }

  async function afterStop(task: HookTask, { signal, state }: HookContext): Promise<undefined> {
    if (!mayHaveRules(task, state)) return;
    const names = (["ports", "direct", "guard"] as const).map((kind) => chainName(task.identity, kind));
    for (const family of host.families) await host.remove(family, names, signal);
  }

  function planOrRefusal(task: HookTask): PlannedAcl | string {
    try {
      return plannedAcl(task.task, config);
    } catch (error) {
      return `refuse the task: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  return {
    name: "acl",
    priority: 200,
    timeoutMs: 30_000,
    failsTask: true,
    stages: {
      beforeCreate: async (task) => void plannedAcl(task.task, config),
      beforeStart,
      afterStart,
      afterStop,
    },
    describe(task) {
      const planned = planOrRefusal(task);
      if (typeof planned === "string") return planned;
      const { inside, ports } = planned;
      const list = (allowed: { IPv4: string[]; IPv6: string[] }): string => [...allowed.IPv4, ...allowed.IPv6].join(", ");
      const sentences = ports.map(({ hostPort, protocol, allowed }) => `let ${list(allowed)} reach port ${hostPort}/${protocol}`);
      if (inside !== undefined) sentences.unshift(`let ${list(inside)} reach the container`);
      return sentences.length === 0 ? undefined : `${sentences.join("; ")}; nobody else`;
    },
  };
}
