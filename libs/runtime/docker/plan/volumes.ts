import { posix } from "node:path";
import type { TaskInfo, Volume } from "@berth/mesos/task-info";
import { type Draft, withEntry, withValues } from "./draft.ts";
import { invalidField } from "./invalid.ts";

/** Where Mesos mounts a sandbox if nobody says otherwise. */
export const DEFAULT_MAPPED_DIRECTORY = "/mnt/mesos/sandbox";

export interface Directories {
  /** The sandbox on the host. */
  sandbox: string;
  /** The sandbox in the container: relative container paths are below it. */
  mapped: string;
  /** Whether the sandbox itself is mounted there. */
  mountSandbox: boolean;
}

/**
 * Maps `container.volumes`, and the sandbox after them. A relative host path is inside the sandbox, unless a volume driver is
 * named: then it is a volume's name. Must run after the parameters, which may name that driver.
 */
export function applyVolumes(draft: Draft, task: TaskInfo, directories: Directories): void {
  const driver = task.container?.docker?.volume_driver;
  if (driver !== undefined && driver !== "") draft.host.VolumeDriver ??= driver;
  const binds = draft.host.Binds;
  delete draft.host.Binds;
  for (const [index, volume] of (task.container?.volumes ?? []).entries()) {
    applyVolume(draft, volume, `container.volumes.${index}`, directories);
  }
  if (directories.mountSandbox) bind(draft, directories.sandbox, directories.mapped, undefined);
  if (binds !== undefined) draft.host.Binds = withValues(draft.host.Binds, ...binds);
}

function applyVolume(draft: Draft, volume: Volume, field: string, directories: Directories): void {
  const target = posix.resolve(directories.mapped, volume.container_path);
  const relativeTarget = !posix.isAbsolute(volume.container_path);
  const { source } = volume;
  if (volume.host_path !== undefined && volume.host_path !== "") {
    bindHostPath(draft, volume.host_path, { target, relativeTarget, mode: volume.mode, field: `${field}.host_path` }, directories);
    return;
  }
  switch (source?.type) {
    case undefined:
      throw invalidField(field, "it needs a host_path or a source");
    case "HOST_PATH":
      if (source.host_path === undefined) throw invalidField(`${field}.source.host_path`, "it is missing");
      bindHostPath(
        draft,
        source.host_path.path,
        { target, relativeTarget, mode: volume.mode, field: `${field}.source.host_path.path` },
        directories,
      );
      return;
    case "SANDBOX_PATH":
      // Every task of an executor shares its sandbox, so SELF and PARENT are the same directory here.
      bind(draft, insideSandbox(directories.sandbox, source.sandbox_path?.path, `${field}.source.sandbox_path.path`), target, volume.mode);
      return;
    case "DOCKER_VOLUME":
      mountDockerVolume(draft, volume, target, field);
      return;
    case "SECRET":
      throw invalidField(`${field}.source`, "a SECRET volume is not supported: give the secret as a variable with a vault:// value");
    default:
      throw invalidField(`${field}.source.type`, `${source?.type} is not supported: HOST_PATH, SANDBOX_PATH and DOCKER_VOLUME are`);
  }
}

interface Target {
  target: string;
  relativeTarget: boolean;
  mode: Volume["mode"];
  field: string;
}

function bindHostPath(draft: Draft, hostPath: string, { target, relativeTarget, mode, field }: Target, directories: Directories): void {
  if (posix.isAbsolute(hostPath)) {
    bind(draft, hostPath, target, mode);
    return;
  }
  if (hostPath === "") throw invalidField(field, "it is empty");
  if (relativeTarget) throw invalidField(field, "host path and container path are both relative: such a path is in the sandbox anyway");
  if (draft.host.VolumeDriver !== undefined) {
    bind(draft, hostPath, target, mode);
    return;
  }
  bind(draft, posix.join(directories.sandbox, hostPath), target, mode);
}

function insideSandbox(sandbox: string, path: string | undefined, field: string): string {
  if (path === undefined || path === "") throw invalidField(field, "it is missing");
  const joined = posix.join(sandbox, path);
  if (posix.isAbsolute(path) || (joined !== sandbox && !joined.startsWith(`${posix.join(sandbox)}/`))) {
    throw invalidField(field, "it must be a relative path that stays inside the sandbox");
  }
  return joined;
}

function mountDockerVolume(draft: Draft, volume: Volume, target: string, field: string): void {
  const named = volume.source?.docker_volume;
  if (named === undefined || named.name === "") throw invalidField(`${field}.source.docker_volume.name`, "it is missing");
  const options = named.driver_options?.parameter ?? [];
  if (named.driver === undefined && options.length === 0) {
    bind(draft, named.name, target, volume.mode);
    return;
  }
  // A mount carries driver and options of its own, so volumes of several drivers fit into one task.
  let driverOptions: Record<string, string> | undefined;
  for (const option of options) driverOptions = withEntry(driverOptions, option.key, option.value);
  const driver = {
    ...(named.driver === undefined ? {} : { Name: named.driver }),
    ...(driverOptions === undefined ? {} : { Options: driverOptions }),
  };
  draft.host.Mounts = withValues(draft.host.Mounts, {
    Type: "volume",
    Source: named.name,
    Target: target,
    ...(volume.mode === "RO" ? { ReadOnly: true } : {}),
    VolumeOptions: { DriverConfig: driver },
  });
}

/** A bind makes a host directory that does not exist; its syntax has no room for a colon in a path, so such a path becomes a mount. */
function bind(draft: Draft, source: string, target: string, mode: Volume["mode"]): void {
  if (source.includes(":") || target.includes(":")) {
    const type = source.startsWith("/") ? "bind" : "volume";
    draft.host.Mounts = withValues(draft.host.Mounts, {
      Type: type,
      Source: source,
      Target: target,
      ...(mode === "RO" ? { ReadOnly: true } : {}),
    });
    return;
  }
  draft.host.Binds = withValues(draft.host.Binds, `${source}:${target}${mode === undefined ? "" : `:${mode.toLowerCase()}`}`);
}
