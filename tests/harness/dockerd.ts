import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { DockerApi } from "./docker-api.ts";
import { importBusybox } from "./image.ts";
import { type RunningProcess, startProcess } from "./process.ts";
import { tempDir } from "./temp-dir.ts";
import { command, installedServer } from "./tools.ts";
import { waitFor } from "./wait-for.ts";

export interface DockerdOptions {
  /** Containers run on while dockerd is down (`--live-restore`). */
  liveRestore?: boolean;
  /** More flags for dockerd. */
  args?: readonly string[];
}

/** A private Docker engine with {@link BUSYBOX_IMAGE} in it. */
export interface Dockerd extends AsyncDisposable {
  /** `unix:///…/docker.sock`, fit for DOCKER_HOST. */
  host: string;
  api: DockerApi;
  /** dockerd's own pid now; it changes with a restart. Undefined for a shared engine. */
  pid(): number | undefined;
  /** What dockerd has logged. */
  output(): string;
  /** kill -9 of dockerd, its containers untouched; `start()` brings it back. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Stops dockerd as systemd would (without live restore its containers end) and starts it again. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * The engine for tests that only need some engine: the one that BERTH_TEST_DOCKER_HOST names, else a private one. Tests that
 * stop, restart or crowd dockerd start their own.
 */
export async function sharedDockerd(): Promise<Dockerd> {
  const host = process.env.BERTH_TEST_DOCKER_HOST;
  if (host === undefined || host === "") return startDockerd();
  await importBusybox(host);
  const refuse = async (): Promise<void> => {
    throw new Error("this Docker engine is shared by other tests: use startDockerd() for one that may be stopped");
  };
  const release = async (): Promise<void> => {};
  const api = new DockerApi(host);
  const pid = (): undefined => undefined;
  return { host, api, pid, output: () => "", kill: refuse, start: refuse, restart: refuse, stop: release, [Symbol.asyncDispose]: release };
}

/**
 * Starts a private dockerd: own data, own containerd namespace, own bridge. It leaves the firewall alone (the daemons of one
 * host would flush each other's chains): published ports are served by docker-proxy, and containers reach only the host.
 */
export async function startDockerd(options: DockerdOptions = {}): Promise<Dockerd> {
  if (process.getuid?.() !== 0) throw new Error("a Docker engine for tests needs root; or name a running one in BERTH_TEST_DOCKER_HOST");
  const folder = await tempDir("d");
  const bridge = await createBridge(folder.path).catch(async (error: unknown) => {
    await folder.remove();
    throw error;
  });
  const host = `unix://${join(folder.path, "docker.sock")}`;
  const api = new DockerApi(host);
  const args = [
    ...["--data-root", join(folder.path, "data"), "--exec-root", join(folder.path, "exec"), "--pidfile", join(folder.path, "pid")],
    ...["--host", host, "--group", "root", "--containerd-namespace", bridge, "--containerd-plugins-namespace", `${bridge}-plugins`],
    ...["--bridge", bridge, "--iptables=false", "--ip6tables=false", "--ip-masq=false"],
    ...(options.liveRestore ? ["--live-restore"] : []),
    ...(options.args ?? []),
  ];
  let daemon: RunningProcess | undefined;

  async function start(): Promise<void> {
    if (daemon?.running()) return;
    daemon = await startProcess({
      name: "dockerd",
      command: installedServer("dockerd"),
      args,
      stopGrace: 20_000,
      ready: async () => (await api.call("GET", "/_ping")) === "OK",
    });
  }

  async function kill(): Promise<void> {
    daemon?.kill("SIGKILL");
    await daemon?.ended;
    // Its containerd gets a KILL from the kernel; a new dockerd must not meet the old one's socket.
    await waitFor(() => containerdPids(folder.path).length === 0, { what: "dockerd's containerd to end" });
    // Where nobody reaps orphans at once, the dead containerd is a zombie, which dockerd takes for a running one.
    await rm(join(folder.path, "exec/containerd/containerd.pid"), { force: true });
  }

  async function restart(): Promise<void> {
    await daemon?.stop();
    await start();
  }

  async function stop(): Promise<void> {
    await start();
    await removeContainers(api);
    await daemon?.stop();
    await endShims(folder.path);
    await unmountBelow(folder.path);
    await command("ip", "link", "delete", bridge).catch(() => {});
    await folder.remove();
  }

  try {
    await start();
    await importBusybox(host);
  } catch (error) {
    await daemon?.stop();
    await unmountBelow(folder.path);
    await command("ip", "link", "delete", bridge).catch(() => {});
    await folder.remove();
    throw error;
  }
  const pid = (): number | undefined => daemon?.pid;
  const output = (): string => daemon?.output() ?? "";
  return { host, api, pid, output, kill, start, restart, stop, [Symbol.asyncDispose]: stop };
}

/** A bridge with a /24 of its own; a clash with one that is there already is answered by another number. Its alias says whose it is. */
async function createBridge(owner: string): Promise<string> {
  for (;;) {
    const [second = 0, third = 0] = randomBytes(2);
    const name = `bt${second.toString(16).padStart(2, "0")}${third.toString(16).padStart(2, "0")}`;
    const address = `10.${192 + (second % 32)}.${third}.1/24`;
    if ((await command("ip", "-o", "address")).includes(`inet ${address.slice(0, -4)}`)) continue;
    await command("ip", "link", "add", "name", name, "type", "bridge");
    await command("ip", "link", "set", "dev", name, "alias", owner);
    await command("ip", "address", "add", address, "dev", name);
    await command("ip", "link", "set", name, "up");
    return name;
  }
}

async function removeContainers(api: DockerApi): Promise<void> {
  const containers = await api.call<{ Id: string }[]>("GET", "/containers/json?all=1");
  // A container that is on its way out by itself answers 404 or 409; what is really left over shows in the mounts.
  await Promise.allSettled(containers.map(({ Id }) => api.call("DELETE", `/containers/${Id}?force=1&v=1`)));
}

function containerdPids(folder: string): number[] {
  return processesNaming(folder)
    .filter(({ cmdline }) => /^\S*containerd\0/.test(cmdline))
    .map(({ pid }) => pid);
}

/** Shims outlive a dockerd that was killed; they carry its folder in their command line. */
async function endShims(folder: string): Promise<void> {
  for (const { pid } of processesNaming(folder)) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // Gone in the meantime.
    }
  }
  await waitFor(() => processesNaming(folder).length === 0, { what: `the last process of ${folder} to end` });
}

function processesNaming(folder: string): { pid: number; cmdline: string }[] {
  const found = [];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      const cmdline = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      if (cmdline.includes(`${folder}/`) && /^\S*(dockerd|containerd[^/\0]*|docker-proxy|runc)\0/.test(cmdline))
        found.push({ pid, cmdline });
    } catch {
      // Gone in the meantime.
    }
  }
  return found;
}

async function unmountBelow(folder: string): Promise<void> {
  const points = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "")
    .filter((point) => point.startsWith(`${folder}/`));
  for (const point of points.reverse()) await command("umount", "--lazy", point).catch(() => {});
}
