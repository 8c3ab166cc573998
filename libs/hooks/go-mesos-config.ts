import { parse } from "yaml";
import { z } from "zod";
import { type BuiltInName, HooksConfig } from "./config.ts";

/** What go-mesos-executor's `config.yaml` says of hooks, in Berth's terms. */
export interface ConvertedConfig {
  config: HooksConfig;
  /** Where Berth's processes see the host's process file system. */
  procPath?: string;
  /** A sentence for each key: what it became, or why it has no effect. */
  notes: string[];
}

/** Its keys, as its file has them; viper reads them without regard to case, and so do we. */
const GoMesosConfig = z.looseObject({
  hooks: z.array(z.string()).nullish(),
  proc_path: z.string().nullish(),
  acl: z
    .looseObject({
      chain: z.string().nullish(),
      external_interface: z.string().nullish(),
      default_allowed_cidr: z.array(z.string()).nullish(),
    })
    .nullish(),
  iptables: z
    .looseObject({
      chains: z
        .looseObject({ prerouting: z.string().nullish(), forward: z.string().nullish(), postrouting: z.string().nullish() })
        .nullish(),
      container_bridge_interface: z.string().nullish(),
      ip_forwarding: z.boolean().nullish(),
      ip_masquerading: z.boolean().nullish(),
    })
    .nullish(),
  netns: z.looseObject({ path: z.string().nullish() }).nullish(),
});

/** Its names of hooks, and ours. */
const HOOKS: Record<string, BuiltInName> = {
  acl: "acl",
  iptables: "dnat",
  netns: "netns",
  network: "network",
  removecontainer: "removeContainer",
};
const NO_EFFECT: Record<string, string> = {
  debug: "the daemon's log level is a setting of its own",
  registering_retry: "the worker subscribes again by Mesos's own rules",
  docker_exec_poll_interval: "Docker tells when a command has ended; nothing is polled",
};

/** Reads go-mesos-executor's `config.yaml`. Throws where it is no YAML or a key has a value of another type, and names it. */
export function fromGoMesosConfig(text: string): ConvertedConfig {
  const parsed = GoMesosConfig.safeParse(lowerCaseKeys(parse(text) ?? {}));
  if (!parsed.success) throw new Error(`config.yaml of go-mesos-executor cannot be used: ${z.prettifyError(parsed.error)}`);
  const { hooks, proc_path: procPath, acl, iptables, netns, ...rest } = parsed.data;
  const notes = Object.keys(rest).map((key) => `${key}: no effect; ${NO_EFFECT[key] ?? "Berth knows no such key"}`);
  const names: BuiltInName[] = [];
  for (const name of hooks ?? []) {
    const known = HOOKS[name.toLowerCase()];
    if (known === undefined) notes.push(`hooks: '${name}' is no hook that Berth has`);
    else {
      names.push(known);
      notes.push(`hooks: '${name}' is Berth's '${known}'`);
    }
  }
  if (acl?.chain)
    notes.push(`acl.chain '${acl.chain}': taken; Berth filters forwarded traffic there, so it must be a chain that FORWARD leads to`);
  // Its own default, "all", is an interface of that name to iptables, and matches nothing.
  const externalInterface = acl?.external_interface && acl.external_interface !== "all" ? acl.external_interface : undefined;
  const config = HooksConfig.parse({
    hooks: names,
    acl: defined({ chain: acl?.chain, externalInterface, defaultAllowedCidr: acl?.default_allowed_cidr }),
    iptables: defined({
      chains: defined({
        prerouting: iptables?.chains?.prerouting,
        forward: iptables?.chains?.forward,
        postrouting: iptables?.chains?.postrouting,
      }),
      containerBridgeInterface: iptables?.container_bridge_interface,
      ipForwarding: iptables?.ip_forwarding,
      ipMasquerading: iptables?.ip_masquerading,
    }),
    netns: defined({ path: netns?.path }),
  });
  return { config, notes, ...(procPath ? { procPath } : {}) };
}

function defined(record: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined && value !== null && value !== ""));
}

function lowerCaseKeys(value: unknown): unknown {
  if (Array.isArray(value) || typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key.toLowerCase(), lowerCaseKeys(inner)]));
}
