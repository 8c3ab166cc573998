import { readFile } from "node:fs/promises";
import type { AllowedSources } from "./addresses.ts";

/** The default gateways of a process's network namespace, from its routing tables; they need no entering. */
export async function gatewaysOf(pid: number, procPath: string): Promise<AllowedSources> {
  const read = (name: string) => readFile(`${procPath}/${pid}/net/${name}`, "utf8").catch(() => "");
  const [four, six] = await Promise.all([read("route"), read("ipv6_route")]);
  const gateways: AllowedSources = { IPv4: [], IPv6: [] };
  for (const line of four.split("\n")) {
    // Interface, destination, gateway: hexadecimal, in the machine's byte order (little-endian wherever Docker runs).
    const [, destination, gateway = ""] = line.split("\t");
    if (destination !== "00000000" || !/^[0-9A-F]{8}$/.test(gateway) || gateway === "00000000") continue;
    gateways.IPv4.push(`${[...Buffer.from(gateway, "hex")].reverse().join(".")}/32`);
  }
  for (const line of six.split("\n")) {
    const [destination = "", length, , , gateway = ""] = line.trim().split(/\s+/);
    if (!/^0{32}$/.test(destination) || length !== "00" || !/^[0-9a-f]{32}$/.test(gateway) || /^0{32}$/.test(gateway)) continue;
    gateways.IPv6.push(`${(gateway.match(/.{4}/g) ?? []).join(":")}/128`);
  }
  return gateways;
}
