import { parseGoDuration } from "@berth/duration";
import { z } from "zod";

/** Written as Go writes it ("10s", "1m30s"), read as milliseconds. */
const duration = z.string().transform((text, context) => {
  const milliseconds = parseGoDuration(text);
  if (milliseconds !== undefined && milliseconds >= 0) return milliseconds;
  context.addIssue({ code: "custom", message: `'${text}' is no duration: write it like 10s or 1m30s` });
  return z.NEVER;
});
const list = z.array(z.string().min(1));

/** Names of the built-in hooks that may stand in the `hooks:` list. `removeContainer` is taken for compatibility: Berth always removes. */
export const BUILT_IN_NAMES = ["network", "acl", "dnat", "netns", "vaas", "consul", "removeContainer"] as const;
export type BuiltInName = (typeof BUILT_IN_NAMES)[number];

const UserHook = z.strictObject({
  /** Absolute path of an ES module that exports a hook (see docs/hooks.md). */
  module: z.string().startsWith("/").optional(),
  /** Absolute path of a program: JSON on stdin, JSON on stdout. */
  exec: z.string().startsWith("/").optional(),
  args: z.array(z.string()).default([]),
  /** Default: the file's name. */
  name: z.string().min(1).optional(),
  /** For a program; a module says it itself. */
  stages: z.array(z.enum(["beforeCreate", "beforeStart", "afterStart", "afterHealthy", "beforeStop", "afterStop"])).default([]),
  priority: z.number().int().optional(),
  /** Of each stage. Default 30s. */
  timeout: duration.optional(),
  failsTask: z.boolean().optional(),
});
export type UserHook = z.infer<typeof UserHook>;

/** The `hooks:` list: names of built-in hooks, and users' own. Its order means nothing: priorities do. */
export const HookList = z
  .array(
    z.union([
      z.enum(BUILT_IN_NAMES),
      UserHook.refine((hook) => (hook.module === undefined) !== (hook.exec === undefined), "a hook is either a module or an exec"),
    ]),
  )
  .default(["acl", "vaas", "consul"]);
export type HookList = z.infer<typeof HookList>;

/** The `acl:` section. */
export const AclConfig = z.strictObject({
  /** Where forwarded traffic is filtered; created by dockerd. Where it does not exist, FORWARD is used. */
  chain: z
    .string()
    .regex(/^[\w-]{1,28}$/)
    .default("DOCKER-USER"),
  /** The interface that clients come in by. Default: every one but loopback. */
  externalInterface: z.string().min(1).optional(),
  /** Every mapped port is then filtered to these and to what its label adds. */
  defaultAllowedCidr: list.default([]),
  /** With EXECUTOR_ALLOWED_IP: whether the network's gateway (the host) may connect, for health checks from there. */
  allowGateway: z.boolean().default(false),
});
export type AclConfig = z.infer<typeof AclConfig>;

/** The `iptables:` section: addresses and ports translated by Berth, for a dockerd with `--iptables=false`. */
export const DnatConfig = z.strictObject({
  chains: z
    .strictObject({
      prerouting: z.string().default("PREROUTING"),
      forward: z.string().default("FORWARD"),
      postrouting: z.string().default("POSTROUTING"),
    })
    .prefault({}),
  /** The bridge of the containers. */
  containerBridgeInterface: z.string().min(1).default("docker0"),
  ipForwarding: z.boolean().default(true),
  ipMasquerading: z.boolean().default(true),
});
export type DnatConfig = z.infer<typeof DnatConfig>;

/** The `consul:` section. What a task's executor has in its environment (CONSUL_TOKEN, CLOUD_PUBLIC_IP …) goes before it. */
export const ConsulConfig = z.strictObject({
  /** `http://host:port`, `https://…` or `unix:///path`. Default CONSUL_HTTP_ADDR, else http://127.0.0.1:8500. */
  address: z.string().optional(),
  /** Added to every service. */
  globalTag: z.string().optional(),
  /** The address that services are registered with. Default CLOUD_PUBLIC_IP, else Consul's own. */
  serviceAddress: z.string().optional(),
  initialStatus: z.enum(["passing", "warning", "critical"]).optional(),
  /** From deregistration to the first signal. Default KEEP_AFTER_DEREGISTRATION, else 0s. */
  keepAfterDeregistration: duration.optional(),
  /** Register also tasks that have no health check, once they run. */
  withoutHealthCheck: z.boolean().default(true),
  /** Consul drops a service that was critical for so long: a backstop for hosts that vanish. Consul's own minimum is one minute. */
  deregisterCriticalAfter: duration.optional(),
});
export type ConsulConfig = z.infer<typeof ConsulConfig>;

/** The `vaas:` section. Host, user name, token and data centre come from VAAS_HOST, VAAS_USERNAME, VAAS_TOKEN and CLOUD_DC where not given here. */
export const VaasConfig = z.strictObject({
  host: z.string().optional(),
  dc: z.string().optional(),
  serviceAddress: z.string().optional(),
});
export type VaasConfig = z.infer<typeof VaasConfig>;

/** The `netns:` section. */
export const NetnsConfig = z.strictObject({ path: z.string().startsWith("/").default("/var/run/netns") });
export type NetnsConfig = z.infer<typeof NetnsConfig>;

/** The `network:` section: what every Docker task gets, whatever it asks for. */
export const NetworkConfig = z.strictObject({
  mode: z.enum(["BRIDGE", "USER", "NONE"]).default("USER"),
  /** Of a USER network; `{framework}` stands for the framework's name. */
  name: z.string().min(1).default("{framework}"),
});
export type NetworkConfig = z.infer<typeof NetworkConfig>;

/** Everything about hooks in the host's settings. Strict: a misspelt option is an error that names it. */
export const HooksConfig = z.object({
  hooks: HookList,
  acl: AclConfig.prefault({}),
  iptables: DnatConfig.prefault({}),
  consul: ConsulConfig.prefault({}),
  vaas: VaasConfig.prefault({}),
  netns: NetnsConfig.prefault({}),
  network: NetworkConfig.prefault({}),
});
export type HooksConfig = z.infer<typeof HooksConfig>;
