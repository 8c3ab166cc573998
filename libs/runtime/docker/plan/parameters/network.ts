/** Parameters of networks, ports and names. */
import { type Draft, type NetworkAttachment, withEntry, withValues } from "../draft.ts";
import { parseAddress, parseBoolean, parseExpose, parseFields, parseMac, parsePublish, parseStrictPair, ValueError } from "./grammar.ts";
import type { DockerParameter } from "./parameter.ts";

export const NETWORK_PARAMETERS: readonly DockerParameter[] = [
  {
    key: "network",
    aliases: ["net"],
    accepts:
      "bridge, host, none, container:<name>, a network's name, or name=…,alias=…,ip=…,ip6=…,mac-address=…,link-local-ip=…,driver-opt=…",
    description: "Network to join instead of `container.docker.network`; further ones are connected before the start",
    repeats: true,
    apply(draft, value) {
      draft.networks.push(parseNetwork(value));
    },
  },
  {
    key: "network-alias",
    aliases: ["net-alias"],
    accepts: "a name",
    description: "Further name of the container in its user-defined network",
    repeats: true,
    apply(draft, value) {
      draft.endpoint.Aliases = withValues(draft.endpoint.Aliases, value);
    },
  },
  {
    key: "ip",
    accepts: "an IPv4 address",
    description: "Address in a user-defined network",
    apply(draft, value) {
      draft.endpoint.IPAMConfig = { ...draft.endpoint.IPAMConfig, IPv4Address: parseAddress(value, 4) };
    },
  },
  {
    key: "ip6",
    accepts: "an IPv6 address",
    description: "Address in a user-defined network",
    apply(draft, value) {
      draft.endpoint.IPAMConfig = { ...draft.endpoint.IPAMConfig, IPv6Address: parseAddress(value, 6) };
    },
  },
  {
    key: "link-local-ip",
    accepts: "an IP address",
    description: "Link-local address in a user-defined network",
    repeats: true,
    apply(draft, value) {
      const { IPAMConfig } = draft.endpoint;
      draft.endpoint.IPAMConfig = { ...IPAMConfig, LinkLocalIPs: withValues(IPAMConfig?.LinkLocalIPs, parseAddress(value)) };
    },
  },
  {
    key: "mac-address",
    accepts: "a MAC address",
    description: "MAC address of the container",
    apply(draft, value) {
      draft.body.MacAddress = parseMac(value);
    },
  },
  {
    key: "link",
    accepts: "container[:alias]",
    description: "Adds a link to another container",
    repeats: true,
    apply(draft, value) {
      if (!/^[^:]+(:[^:]+)?$/.test(value)) throw new ValueError("is not of the form container[:alias]");
      draft.host.Links = withValues(draft.host.Links, value);
    },
  },
  {
    key: "publish",
    accepts: "[[ip:][hostPort]:]containerPort[/protocol] with ranges, or published=…,target=…,protocol=…",
    description: "Publishes a port, beside `container.docker.port_mappings`; Mesos does not know that the host port is taken",
    repeats: true,
    apply(draft, value) {
      for (const { key, hostIp, hostPort } of parsePublish(value)) publishPort(draft, key, { HostIp: hostIp, HostPort: hostPort });
    },
  },
  {
    key: "publish-all",
    accepts: "true|false",
    description: "Publishes every exposed port at a free host port",
    apply(draft, value) {
      draft.host.PublishAllPorts = parseBoolean(value);
    },
  },
  {
    key: "expose",
    accepts: "port[-port][/protocol]",
    description: "Marks ports as listened to",
    repeats: true,
    apply(draft, value) {
      for (const key of parseExpose(value)) exposePort(draft, key);
    },
  },
  {
    key: "hostname",
    accepts: "a host name",
    description: "Host name inside the container, instead of `container.hostname`",
    apply(draft, value) {
      draft.body.Hostname = value;
    },
  },
  {
    key: "domainname",
    accepts: "a domain name",
    description: "NIS domain name inside the container",
    apply(draft, value) {
      draft.body.Domainname = value;
    },
  },
  {
    key: "add-host",
    accepts: "name:ip or name=ip; the ip may be host-gateway",
    description: "Adds a line to the container's /etc/hosts",
    repeats: true,
    apply(draft, value) {
      draft.host.ExtraHosts = withValues(draft.host.ExtraHosts, parseExtraHost(value));
    },
  },
  {
    key: "dns",
    accepts: "an IP address",
    description: "Adds a name server",
    repeats: true,
    apply(draft, value) {
      draft.host.Dns = withValues(draft.host.Dns, parseAddress(value));
    },
  },
  {
    key: "dns-search",
    accepts: "a domain, or . for none",
    description: "Adds a search domain",
    repeats: true,
    apply(draft, value) {
      if (!/^(\.|[\w-]+(\.[\w-]+)*\.?)$/.test(value)) throw new ValueError("is not a domain");
      draft.host.DnsSearch = withValues(draft.host.DnsSearch, value);
    },
  },
  {
    key: "dns-option",
    aliases: ["dns-opt"],
    accepts: "an option of resolv.conf",
    description: "Adds a resolver option",
    repeats: true,
    apply(draft, value) {
      draft.host.DnsOptions = withValues(draft.host.DnsOptions, value);
    },
  },
];

/** Marks a port ("80/tcp") as exposed. */
export function exposePort(draft: Draft, key: string): void {
  draft.body.ExposedPorts = withEntry(draft.body.ExposedPorts, key, {});
}

/** Publishes and exposes a port: without the second, the engine publishes nothing that the image does not expose itself. Equal bindings are kept once. */
export function publishPort(draft: Draft, key: string, binding: { HostIp: string; HostPort: string }): void {
  exposePort(draft, key);
  const bindings = draft.host.PortBindings?.[key] ?? [];
  if (bindings.some((other) => other.HostIp === binding.HostIp && other.HostPort === binding.HostPort)) return;
  draft.host.PortBindings = withEntry(draft.host.PortBindings, key, [...bindings, binding]);
}

function parseExtraHost(value: string): string {
  const match = /^([^:=\s]+)[:=](.+)$/.exec(value);
  if (match === null) throw new ValueError("is not of the form name:ip");
  const [, name = "", address = ""] = match;
  return `${name}:${address === "host-gateway" ? address : parseAddress(address)}`;
}

/** The client's long form is told from a name by the `=` in its first field. */
function parseNetwork(value: string): NetworkAttachment {
  if (!value.includes("=")) {
    if (value === "" || /\s/.test(value)) throw new ValueError("is not the name of a network");
    return { network: value === "default" ? "bridge" : value, endpointConfig: {} };
  }
  let network: string | undefined;
  const config: NetworkAttachment["endpointConfig"] = {};
  for (const field of parseFields(value)) {
    const { key, value: part } = parseStrictPair(field);
    if (key === "name") network = part;
    else if (key === "alias") config.Aliases = withValues(config.Aliases, part);
    else if (key === "ip") config.IPAMConfig = { ...config.IPAMConfig, IPv4Address: parseAddress(part, 4) };
    else if (key === "ip6") config.IPAMConfig = { ...config.IPAMConfig, IPv6Address: parseAddress(part, 6) };
    else if (key === "link-local-ip")
      config.IPAMConfig = { ...config.IPAMConfig, LinkLocalIPs: withValues(config.IPAMConfig?.LinkLocalIPs, parseAddress(part)) };
    else if (key === "mac-address") config.MacAddress = parseMac(part);
    else if (key === "driver-opt") {
      const option = parseStrictPair(part);
      config.DriverOpts = withEntry(config.DriverOpts, option.key, option.value);
    } else throw new ValueError("knows the fields name, alias, ip, ip6, link-local-ip, mac-address and driver-opt");
  }
  if (network === undefined || network === "") throw new ValueError("has no name=<network>");
  return { network, endpointConfig: config };
}
