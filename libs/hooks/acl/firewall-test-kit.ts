/** For tests: a host in a network namespace of its own, with two clients on networks of their own, and on demand a dockerd. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { DockerApi, importBusybox, startProcess, tempDir } from "@berth/test-harness";

const run = promisify(execFile);

async function command(program: string, ...args: string[]): Promise<string> {
  return (await run(program, args, { maxBuffer: 16 * 1024 * 1024 })).stdout;
}

export const isRoot = process.getuid?.() === 0;

export interface Client {
  namespace: string;
  address: string;
  address6: string;
}

export interface TestHost extends AsyncDisposable {
  /** Path of its network namespace. */
  path: string;
  name: string;
  /** Its addresses as seen by the clients' networks; either does for both. */
  address: string;
  address6: string;
  friend: Client;
  stranger: Client;
  /** `iptables-save` and `ip6tables-save` without comments, counters, and tables that hold nothing. */
  rules(): Promise<string>;
}

/** Runs a program in a named network namespace. */
export function inside(namespace: string, ...argv: string[]): Promise<string> {
  return command("nsenter", `--net=/var/run/netns/${namespace}`, ...argv);
}

export async function startTestHost(): Promise<TestHost> {
  const id = randomBytes(3).toString("hex");
  const name = `bt-${id}-host`;
  await command("ip", "netns", "add", name);
  await inside(name, "ip", "link", "set", "lo", "up");
  await inside(name, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1");
  const client = async (which: "friend" | "stranger", net: number): Promise<Client> => {
    const namespace = `bt-${id}-${which}`;
    const [near, far] = [`b${id}${net}h`, `b${id}${net}c`];
    await command("ip", "netns", "add", namespace);
    await command("ip", "-n", name, "link", "add", near, "type", "veth", "peer", "name", far, "netns", namespace);
    for (const [space, device, last] of [
      [name, near, 1],
      [namespace, far, 2],
    ] as const) {
      await command("ip", "-n", space, "address", "add", `10.77.${net}.${last}/24`, "dev", device);
      await command("ip", "-n", space, "address", "add", `fd77:${net}::${last}/64`, "dev", device, "nodad");
      await command("ip", "-n", space, "link", "set", device, "up");
    }
    await command("ip", "-n", namespace, "route", "add", "default", "via", `10.77.${net}.1`);
    await command("ip", "-n", namespace, "route", "add", "default", "via", `fd77:${net}::1`);
    return { namespace, address: `10.77.${net}.2`, address6: `fd77:${net}::2` };
  };
  const friend = await client("friend", 1);
  const stranger = await client("stranger", 2);

  async function rules(): Promise<string> {
    const texts = await Promise.all(["iptables-save", "ip6tables-save"].map((program) => inside(name, program)));
    return texts.map(normalised).join("\n");
  }
  async function dispose(): Promise<void> {
    for (const namespace of [friend.namespace, stranger.namespace, name]) await command("ip", "netns", "delete", namespace);
  }
  return {
    path: `/var/run/netns/${name}`,
    name,
    address: "10.77.1.1",
    address6: "fd77:1::1",
    friend,
    stranger,
    rules,
    [Symbol.asyncDispose]: dispose,
  };
}

function normalised(saved: string): string {
  const tables = saved.split("COMMIT").map((table) =>
    table
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"))
      .map((line) => line.replace(/\[\d+:\d+\]/, "")),
  );
  return tables
    .filter((lines) => lines.some((line) => line.startsWith("-A") || / - $/.test(line)))
    .flat()
    .join("\n");
}

/** Whether a TCP connection from there comes about. A packet that is dropped costs the patience. */
export async function reaches(client: { namespace: string }, address: string, port: number, patienceSeconds = 1): Promise<boolean> {
  try {
    await inside(
      client.namespace,
      "timeout",
      String(patienceSeconds),
      "bash",
      "--norc",
      "--noprofile",
      "-c",
      `exec 3<>/dev/tcp/${address}/${port}`,
    );
    return true;
  } catch {
    return false;
  }
}

export interface BridgedDockerd extends AsyncDisposable {
  api: DockerApi;
}

/** A dockerd with bridge networking, IPv4 and IPv6, and its own rules, all within the host's namespace. */
export async function startBridgedDockerd(host: TestHost): Promise<BridgedDockerd> {
  const folder = await tempDir("a");
  const socket = `unix://${folder.path}/docker.sock`;
  const api = new DockerApi(socket);
  const daemon = await startProcess({
    name: "dockerd",
    // Not `ip netns exec`: that hides the control groups with a /sys of its own.
    command: "nsenter",
    args: [
      ...[`--net=${host.path}`, "dockerd", "--host", socket, "--group", "root", "--pidfile", `${folder.path}/pid`],
      ...["--data-root", `${folder.path}/data`, "--exec-root", `${folder.path}/exec`],
      ...["--containerd-namespace", host.name, "--containerd-plugins-namespace", `${host.name}-plugins`],
      ...["--experimental", "--ipv6", "--ip6tables", "--fixed-cidr-v6", "fd77:d::/64"],
    ],
    stopGrace: 20_000,
    ready: async () => (await api.call("GET", "/_ping")) === "OK",
  }).catch(async (error: unknown) => {
    await folder.remove();
    throw error;
  });
  async function dispose(): Promise<void> {
    const containers = await api.call<Array<{ Id: string }>>("GET", "/containers/json?all=1");
    for (const { Id } of containers) await api.call("DELETE", `/containers/${Id}?force=1&v=1`);
    await daemon.stop();
    const mounts = readFileSync("/proc/self/mounts", "utf8")
      .split("\n")
      .map((line) => line.split(" ")[1] ?? "");
    for (const point of mounts.filter((mount) => mount.startsWith(folder.path)).reverse())
      await command("umount", "--lazy", point).catch(() => {});
    await folder.remove();
  }
  await importBusybox(socket);
  return { api, [Symbol.asyncDispose]: dispose };
}
