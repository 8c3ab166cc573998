import { randomBytes } from "node:crypto";
import { readlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type RunningProcess, startProcess } from "./process.ts";
import { tempDir } from "./temp-dir.ts";
import { builtServer, command } from "./tools.ts";

export interface SidecarOptions {
  /** Finds services by the labels of this engine's containers. */
  dockerHost?: string;
  /** Fixed services instead: Sidecar's static.json. `@HOST@` in it becomes the test host's address as Sidecar sees it. */
  services?: readonly object[];
  /** Where Sidecar posts changes to. */
  listeners?: readonly string[];
}

export interface SidecarServer extends AsyncDisposable {
  /** `http://10.…:7777` */
  address: string;
  /** The test host's address as Sidecar sees it: its health checks go there, so ports must be published on it (or on 0.0.0.0). */
  hostAddress: string;
  process: RunningProcess;
  stop(): Promise<void>;
}

/**
 * A Sidecar in a network namespace of its own: it listens on every address at a fixed port, so two of them, or one and whatever
 * else uses 7777, do not fit on one host. A veth pair joins the namespace to the host; it goes with the namespace.
 */
export async function startSidecar(options: SidecarOptions = {}): Promise<SidecarServer> {
  const folder = await tempDir("sidecar");
  const link = await chooseLink();
  const hostAddress = `${link.network}.1`;
  const address = `http://${link.network}.2:7777`;
  const services = join(folder.path, "static.json");
  await writeFile(services, JSON.stringify(options.services ?? []).replaceAll("@HOST@", hostAddress));
  const waitForLink = "until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done";
  const configure = `ip link set lo up && ip address add ${link.network}.2/30 dev eth0 && ip link set eth0 up`;
  let joined = false;
  const server = await startProcess({
    name: "sidecar",
    command: "unshare",
    args: ["--net", "sh", "-c", `${waitForLink}; ${configure} && exec "$0"`, builtServer("sidecar")],
    env: {
      HAPROXY_DISABLE: "true",
      SIDECAR_SEEDS: "127.0.0.1",
      // Checks of services go to the advertised address: it is the host's, where containers publish their ports.
      SIDECAR_ADVERTISE_IP: hostAddress,
      SIDECAR_CLUSTER_NAME: "berth-test",
      SIDECAR_DISCOVERY: options.dockerHost === undefined ? "static" : "docker",
      DOCKER_URL: options.dockerHost ?? "",
      STATIC_CONFIG_FILE: services,
      LISTENERS_URLS: (options.listeners ?? []).join(","),
    },
    ready: async (_output, pid) => {
      if (!joined && (await ownNamespace(pid))) {
        await command("ip", "link", "add", link.name, "type", "veth", "peer", "name", "eth0", "netns", String(pid));
        joined = true;
        await command("ip", "address", "add", `${hostAddress}/30`, "dev", link.name);
        await command("ip", "link", "set", link.name, "up");
      }
      return joined && (await fetch(`${address}/state.json`, { signal: AbortSignal.timeout(1_000) })).ok;
    },
  });
  const stop = async (): Promise<void> => {
    await server.stop();
    await command("ip", "link", "delete", link.name).catch(() => {});
    await folder.remove();
  };
  return { address, hostAddress, process: server, stop, [Symbol.asyncDispose]: stop };
}

/** Before unshare has done its work the child is still in our namespace, and the peer would land there. */
async function ownNamespace(pid: number): Promise<boolean> {
  return (await readlink(`/proc/${pid}/ns/net`)) !== (await readlink("/proc/self/ns/net"));
}

/** A /30 that no interface of this host has. */
async function chooseLink(): Promise<{ name: string; network: string }> {
  for (;;) {
    const [second = 0, third = 0] = randomBytes(2);
    const network = `10.${224 + (second % 16)}.${third}`;
    if ((await command("ip", "-o", "address")).includes(`inet ${network}.`)) continue;
    return { name: `bs${second.toString(16).padStart(2, "0")}${third.toString(16).padStart(2, "0")}`, network };
  }
}
