import { createHash } from "node:crypto";
import type { TaskIdentity } from "@berth/runtime";
import type { AllowedSources } from "./addresses.ts";
import type { Family, OwnChain } from "./firewall.ts";

/** One published port and who may reach it. */
export interface PortRule {
  hostPort: number;
  containerPort: number;
  protocol: string;
  allowed: AllowedSources;
}

/** Suffixes of a task's chains. */
const KINDS = { ports: "P", direct: "D", guard: "G", inside: "I", dnat: "N", masquerade: "M", forward: "F" } as const;
export type ChainKind = keyof typeof KINDS;

/** The name of a task's chain: known from its ids alone, so that the reaper can take it out. At most 28 characters. */
export function chainName(identity: TaskIdentity, kind: ChainKind): string {
  const ids = JSON.stringify([identity.frameworkId, identity.executorId, identity.containerId, identity.taskId]);
  return `BERTH-${createHash("sha256").update(ids).digest("hex").slice(0, 16)}-${KINDS[kind]}`;
}

/**
 * Filters published ports in the host's namespace. Forwarded packets are known by the port that the client named (conntrack's
 * original destination: after DNAT the packet has the container's), and packets to a userland proxy arrive in INPUT. What is
 * allowed returns to the operator's own rules.
 */
export function portChain(
  name: string,
  family: Family,
  rules: readonly PortRule[],
  from: { forward: string; externalInterface?: string },
): OwnChain {
  const interfaceMatch = from.externalInterface === undefined ? "! -i lo" : `-i ${from.externalInterface}`;
  return {
    table: "filter",
    name,
    rules: rules.flatMap(({ hostPort, protocol, allowed }) => {
      const match = `-p ${protocol} -m conntrack --ctorigdstport ${hostPort}`;
      return [...allowed[family].map((source) => `-s ${source} ${match} -j RETURN`), `${match} -j DROP`];
    }),
    jumps: [
      { from: from.forward, match: `${interfaceMatch} -m conntrack --ctstate DNAT --ctdir ORIGINAL` },
      { from: "INPUT", match: `${interfaceMatch} -m conntrack --ctdir ORIGINAL` },
    ],
  };
}

/**
 * The same lists for packets that name the container's own address: a neighbour on the host's network, or another container, may
 * route to it past the published ports. Known only once the container has its address.
 */
export function directChain(
  name: string,
  family: Family,
  rules: readonly PortRule[],
  to: { addresses: readonly string[]; forward: string; externalInterface?: string },
): OwnChain {
  const interfaceMatch = to.externalInterface === undefined ? "" : `-i ${to.externalInterface} `;
  return {
    table: "filter",
    name,
    rules: rules.flatMap(({ containerPort, protocol, allowed }) => {
      const match = `-p ${protocol} -m ${protocol} --dport ${containerPort}`;
      return [...allowed[family].map((source) => `-s ${source} ${match} -j RETURN`), `${match} -j DROP`];
    }),
    jumps: to.addresses.map((address) => ({ from: to.forward, match: `-d ${address} ${interfaceMatch}-m conntrack --ctdir ORIGINAL` })),
  };
}

/** Filters everything that arrives in a container's own namespace. Without neighbour discovery IPv6 does not work at all. */
export function insideChain(name: string, family: Family, allowed: AllowedSources): OwnChain {
  const discovery = [133, 134, 135, 136, 137].map((type) => `-p ipv6-icmp -m icmp6 --icmpv6-type ${type} -j RETURN`);
  return {
    table: "filter",
    name,
    rules: [
      "-i lo -j RETURN",
      "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
      ...(family === "IPv6" ? discovery : []),
      ...allowed[family].map((source) => `-s ${source} -j RETURN`),
      "-j DROP",
    ],
    jumps: [{ from: "INPUT", match: "" }],
  };
}
