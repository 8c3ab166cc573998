import type { Address } from "../runtime.ts";
import type { ContainerSummary, EngineInfo, EngineVersion, ListedContainer, PublishedPort } from "./engine-types.ts";

/**
 * dockerd's answers, read once into our types. Only the fields in use are read, and a missing one becomes its empty value:
 * dockerd's versions differ, and an answer that lacks a field must not take a running task down. (No schema library: it would
 * weigh more than the rest of this thread.)
 */

type Fields = Record<string, unknown>;

export function fields(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

export function items(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

export function number(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

export function textMap(value: unknown): Record<string, string> {
  const map: Record<string, string> = {};
  for (const [name, each] of Object.entries(fields(value))) {
    if (typeof each === "string") map[name] = each;
  }
  return map;
}

/** Milliseconds since the epoch; Docker's zero time ("0001-01-01T00:00:00Z": never) is undefined. */
export function time(value: unknown): number | undefined {
  const milliseconds = Date.parse(text(value));
  return Number.isNaN(milliseconds) || milliseconds <= 0 ? undefined : milliseconds;
}

/** `GET /containers/{id}/json`. */
export function readContainer(answer: unknown): ContainerSummary {
  const container = fields(answer);
  const state = fields(container.State);
  const config = fields(container.Config);
  const hostConfig = fields(container.HostConfig);
  const logConfig = fields(hostConfig.LogConfig);
  const networkSettings = fields(container.NetworkSettings);
  const id = text(container.Id);
  const health = text(fields(state.Health).Status);
  return {
    id,
    name: text(container.Name).replace(/^\//, ""),
    image: text(config.Image),
    imageId: text(container.Image),
    labels: textMap(config.Labels),
    state: readState(id, state, readAddresses(networkSettings.Networks)),
    status: text(state.Status),
    exitCode: number(state.ExitCode),
    error: text(state.Error),
    createdAt: time(container.Created) ?? 0,
    logPath: text(container.LogPath),
    logDriver: text(logConfig.Type),
    logOptions: textMap(logConfig.Config),
    tty: config.Tty === true,
    ...(text(config.StopSignal) === "" ? {} : { stopSignal: text(config.StopSignal) }),
    networkMode: text(hostConfig.NetworkMode),
    ports: readPorts(networkSettings.Ports),
    ...(health === "healthy" || health === "unhealthy" || health === "starting" ? { health } : {}),
  };
}

/** `Config.Env` of `GET /containers/{id}/json`, only the variables asked for. The last of a name counts, as it does for the process. */
export function readEnvironment(answer: unknown, names: readonly string[]): Record<string, string> {
  const wanted = new Set(names);
  const found: Record<string, string> = {};
  for (const assignment of items(fields(fields(answer).Config).Env).map(text)) {
    const equals = assignment.indexOf("=");
    const name = assignment.slice(0, Math.max(0, equals));
    if (wanted.has(name)) found[name] = assignment.slice(equals + 1);
  }
  return found;
}

function readState(id: string, state: Fields, addresses: Address[]): ContainerSummary["state"] {
  const startedAt = time(state.StartedAt);
  // A container whose start failed is still "created" in some versions and "exited" without a start in others: it never ran.
  if (startedAt === undefined) return { state: "created", id };
  // Paused, restarting and removing containers keep Running true while their process lives.
  if (state.Running === true) return { state: "running", id, pid: number(state.Pid), startedAt, addresses };
  const error = text(state.Error);
  const exit = {
    exitCode: number(state.ExitCode),
    oomKilled: state.OOMKilled === true,
    startedAt,
    // dockerd notes the start when it hears of it: for a process that ends at once that is after its end.
    finishedAt: Math.max(time(state.FinishedAt) ?? 0, startedAt),
    ...(error === "" ? {} : { error }),
  };
  return { state: "exited", id, exit };
}

function readAddresses(networks: unknown): Address[] {
  const addresses: Address[] = [];
  for (const [network, value] of Object.entries(fields(networks))) {
    const { IPAddress, GlobalIPv6Address } = fields(value);
    if (text(IPAddress) !== "") addresses.push({ network, protocol: "IPv4", address: text(IPAddress) });
    if (text(GlobalIPv6Address) !== "") addresses.push({ network, protocol: "IPv6", address: text(GlobalIPv6Address) });
  }
  return addresses;
}

/** `{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "31000"}], "81/tcp": null}`. */
function readPorts(ports: unknown): PublishedPort[] {
  const published: PublishedPort[] = [];
  for (const [key, bindings] of Object.entries(fields(ports))) {
    const [containerPort = "", protocol = "tcp"] = key.split("/");
    for (const binding of items(bindings)) {
      const { HostIp, HostPort } = fields(binding);
      published.push({ containerPort: Number(containerPort), protocol, hostAddress: text(HostIp), hostPort: Number(text(HostPort)) });
    }
  }
  return published;
}

/** `GET /containers/json`. */
export function readList(answer: unknown): ListedContainer[] {
  return items(answer).map((each) => {
    const container = fields(each);
    return {
      id: text(container.Id),
      // The name without a second slash is the container's own; the others are links to it.
      name: (
        items(container.Names)
          .map(text)
          .find((name) => name.lastIndexOf("/") === 0) ?? ""
      ).slice(1),
      image: text(container.Image),
      imageId: text(container.ImageID),
      labels: textMap(container.Labels),
      status: text(container.State),
      createdAt: number(container.Created) * 1000,
    };
  });
}

/** `GET /version`. */
export function readVersion(answer: unknown): EngineVersion {
  const version = fields(answer);
  return {
    version: text(version.Version),
    apiVersion: text(version.ApiVersion),
    minApiVersion: text(version.MinAPIVersion),
    operatingSystem: text(version.Os),
    architecture: text(version.Arch),
  };
}

/** `GET /info`. */
export function readInfo(answer: unknown): EngineInfo {
  const info = fields(answer);
  return {
    id: text(info.ID),
    name: text(info.Name),
    serverVersion: text(info.ServerVersion),
    storageDriver: text(info.Driver),
    loggingDriver: text(info.LoggingDriver),
    cgroupDriver: text(info.CgroupDriver),
    cgroupVersion: text(info.CgroupVersion),
    dockerRootDir: text(info.DockerRootDir),
    liveRestore: info.LiveRestoreEnabled === true,
    cpus: number(info.NCPU),
    memoryBytes: number(info.MemTotal),
    containersRunning: number(info.ContainersRunning),
    warnings: items(info.Warnings).map(text),
  };
}
