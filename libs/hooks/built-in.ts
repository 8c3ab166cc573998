import { aclHook } from "./acl/acl-hook.ts";
import { Firewall } from "./acl/firewall.ts";
import type { BuiltInName, HooksConfig } from "./config.ts";
import { consulHook } from "./consul/consul-hook.ts";
import type { Hook } from "./lifecycle.ts";
import { dnatHook } from "./network/dnat-hook.ts";
import { netnsHook } from "./network/netns-hook.ts";
import { networkHook } from "./network/network-hook.ts";
import { vaasHook } from "./vaas/vaas-hook.ts";

export interface HookDependencies {
  /** The daemon's own environment: CONSUL_*, VAAS_*, CLOUD_* for what a task's executor does not say. */
  environment: Readonly<Record<string, string | undefined>>;
  /** Path of the network namespace whose rules are the host's. Default: our own. */
  hostNetwork?: string;
  /** Default "/proc". */
  procPath?: string;
}

/**
 * The built-in hooks that the `hooks:` list names. In each stage they run by priority:
 *
 * | priority | hook    | why there                                                                    |
 * | -------- | ------- | ---------------------------------------------------------------------------- |
 * | 0        | network | changes the task that all others look at                                     |
 * | 100      | netns   | a name for the namespace, before anything can go wrong in it                 |
 * | 200      | acl     | closes the container before anything makes it known                          |
 * | 300      | dnat    | opens the ports that acl has closed for strangers                            |
 * | 500      | vaas    | first out of the traffic at a stop …                                         |
 * | 600      | consul  | … then out of the directory, with the wait for those who still know it       |
 */
export function builtInHooks(config: HooksConfig, dependencies: HookDependencies): Hook[] {
  const { environment, procPath = "/proc" } = dependencies;
  // One for all hooks: it keeps their changes of the host's rules apart.
  const host = new Firewall(dependencies.hostNetwork);
  const make: Record<BuiltInName, () => Hook | undefined> = {
    network: () => networkHook(config.network),
    netns: () => netnsHook(config.netns, procPath),
    acl: () => aclHook({ config: config.acl, host, procPath }),
    dnat: () => dnatHook(config.iptables, host),
    vaas: () => vaasHook(config.vaas, environment),
    consul: () => consulHook(config.consul, environment),
    // The supervisor removes every container itself, after the terminal update is acknowledged.
    removeContainer: () => undefined,
  };
  const named = new Set(config.hooks.filter((entry) => typeof entry === "string"));
  return [...named].map((name) => make[name]()).filter((hook) => hook !== undefined);
}
