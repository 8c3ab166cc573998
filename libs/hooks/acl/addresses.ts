import { isIP } from "node:net";
import { TaskFailure } from "@berth/mesos";
import type { Family } from "./firewall.ts";

/** Who may connect, by address family; each entry as iptables takes it. */
export type AllowedSources = Record<Family, string[]>;

/** Parses a list of addresses and CIDRs with commas between. Throws a {@link TaskFailure} that names the label and the entry. */
export function parseSources(text: string, what: string): AllowedSources {
  const sources: AllowedSources = { IPv4: [], IPv6: [] };
  const entries = text.split(",").map((entry) => entry.trim());
  for (const entry of entries) {
    const [address = "", prefix, ...more] = entry.split("/");
    const version = isIP(address);
    const longest = version === 6 ? 128 : 32;
    const valid = version !== 0 && !address.includes("%") && more.length === 0 && (prefix === undefined || isPrefix(prefix, longest));
    if (!valid) throw new TaskFailure(`${what}: '${entry.slice(0, 60)}' is neither an IP address nor a CIDR`);
    sources[version === 6 ? "IPv6" : "IPv4"].push(`${address}/${prefix ?? longest}`);
  }
  return sources;
}

function isPrefix(text: string, longest: number): boolean {
  return /^\d{1,3}$/.test(text) && Number(text) <= longest;
}

export function bothOf(one: AllowedSources, other: AllowedSources): AllowedSources {
  return { IPv4: [...one.IPv4, ...other.IPv4], IPv6: [...one.IPv6, ...other.IPv6] };
}
