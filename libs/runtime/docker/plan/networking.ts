import type { PortMapping, TaskInfo } from "@berth/mesos/task-info";
import type { EndpointConfig } from "./create-body.ts";
import { type Draft, type NetworkAttachment, withValues } from "./draft.ts";
import type { DropInFlags } from "./drop-in.ts";
import { invalidField } from "./invalid.ts";
import { exposePort, publishPort } from "./parameters/network.ts";

/**
 * Decides the network, the networks to connect after the create, host name and DNS. Must run after the parameters: one named
 * `network` replaces `container.docker.network`, one named `dns` the agent's default DNS.
 */
export function applyNetwork(draft: Draft, task: TaskInfo, flags: DropInFlags): NetworkAttachment[] {
  const [first, ...further] = draft.networks.length > 0 ? draft.networks : networksOf(task);
  const { network, endpointConfig: own } = first as NetworkAttachment;
  const endpointConfig = mergeEndpoints(own, draft.endpoint);
  draft.host.NetworkMode = network;
  if (isUserDefined(network)) {
    if (draft.host.Links !== undefined) endpointConfig.Links = draft.host.Links;
    draft.body.NetworkingConfig = { EndpointsConfig: { [network]: endpointConfig } };
  } else if (Object.keys(endpointConfig).length > 0) {
    throw invalidField(
      "container.docker.parameters",
      `aliases, addresses and driver options need a user-defined network, not '${network}'`,
    );
  }
  // Neither the host's network nor another container's has room for a second one.
  if (further.length > 0 && !isUserDefined(network) && network !== "bridge") {
    throw invalidField("container.network_infos", `a container with the network '${network}' cannot join further networks`);
  }
  const { hostname } = task.container ?? {};
  if (hostname !== undefined && hostname !== "") draft.body.Hostname ??= hostname;
  applyDefaultDns(draft, network, flags);
  return further;
}

/** The first is the one to create with; the same network is joined once. As in Mesos, network_infos count for USER only. */
function networksOf(task: TaskInfo): NetworkAttachment[] {
  const mode = task.container?.docker?.network ?? "HOST";
  if (mode !== "USER") return [{ network: mode.toLowerCase(), endpointConfig: {} }];
  const names = new Set<string>();
  for (const [index, { name }] of (task.container?.network_infos ?? []).entries()) {
    if (name === undefined || name === "")
      throw invalidField(`container.network_infos.${index}.name`, "a USER network needs the network's name");
    names.add(name);
  }
  if (names.size === 0) throw invalidField("container.network_infos", "a USER network needs the network's name in the first entry");
  return [...names].map((network) => ({ network, endpointConfig: {} }));
}

function isUserDefined(network: string): boolean {
  return !["host", "none", "bridge", "default"].includes(network) && !network.startsWith("container:");
}

function mergeEndpoints(own: EndpointConfig, added: EndpointConfig): EndpointConfig {
  const aliases = [...(own.Aliases ?? []), ...(added.Aliases ?? [])];
  const ipam = { ...own.IPAMConfig, ...added.IPAMConfig };
  return {
    ...own,
    ...(aliases.length > 0 ? { Aliases: aliases } : {}),
    ...(Object.keys(ipam).length > 0 ? { IPAMConfig: ipam } : {}),
  };
}

/** The agent's `--default_container_dns`, for bridge and user-defined networks, where the task says nothing of DNS itself. */
function applyDefaultDns(draft: Draft, network: string, flags: DropInFlags): void {
  const { host } = draft;
  if (host.Dns !== undefined || host.DnsSearch !== undefined || host.DnsOptions !== undefined) return;
  const entries = flags.defaultContainerDns?.docker ?? [];
  const user = entries.filter((entry) => entry.network_mode === "USER");
  const entry = isUserDefined(network)
    ? (user.findLast(({ network_name }) => network_name === network) ?? user.findLast(({ network_name }) => network_name === undefined))
    : network === "bridge"
      ? entries.findLast(({ network_mode }) => network_mode === "BRIDGE")
      : undefined;
  if (entry === undefined) return;
  const { nameservers, search, options } = entry.dns;
  if (nameservers.length > 0) host.Dns = withValues(undefined, ...nameservers);
  if (search.length > 0) host.DnsSearch = withValues(undefined, ...search);
  if (options.length > 0) host.DnsOptions = withValues(undefined, ...options);
}

const PROTOCOLS = ["tcp", "udp", "sctp"];

/** Exposes and publishes `container.docker.port_mappings`; a port mapped twice keeps both host ports. */
export function applyPorts(draft: Draft, task: TaskInfo): void {
  for (const [index, mapping] of portMappings(task).entries()) {
    if (mapping.container_port === 0) continue;
    for (const protocol of protocolsOf(mapping, `container.docker.port_mappings.${index}.protocol`)) {
      const key = `${mapping.container_port}/${protocol}`;
      if (mapping.host_port === 0) exposePort(draft, key);
      else publishPort(draft, key, { HostIp: "", HostPort: String(mapping.host_port) });
    }
  }
}

/** Says so where the network has no use for published ports: the engine drops them without a word. */
export function warnOfUnusedPorts(draft: Draft): void {
  const network = draft.host.NetworkMode ?? "";
  if (draft.host.PortBindings === undefined || isUserDefined(network) || network === "bridge") return;
  draft.warnings.push(`the network '${network}' publishes no ports: the port mappings have no effect, the task's own ports count`);
}

/** The port mappings of a task. */
export function portMappings(task: TaskInfo): readonly PortMapping[] {
  return task.container?.docker?.port_mappings ?? [];
}

/** "tcp", "udp", "tcp,udp"; nothing at all means tcp. */
function protocolsOf(mapping: PortMapping, field: string): string[] {
  const protocols = (mapping.protocol ?? "")
    .split(",")
    .map((protocol) => protocol.trim().toLowerCase())
    .filter((protocol) => protocol !== "");
  const unknown = protocols.find((protocol) => !PROTOCOLS.includes(protocol));
  if (unknown !== undefined) throw invalidField(field, "it must be tcp, udp or sctp, or several of them with commas between");
  return protocols.length === 0 ? ["tcp"] : protocols;
}
