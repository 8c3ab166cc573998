/** Parameters of volumes, mounts, file systems and logs. */
import { posix } from "node:path";
import type { Mount } from "../create-body.ts";
import { type Draft, withEntry, withValues } from "../draft.ts";
import { parseBoolean, parseContainerPath, parseFields, parsePair, parseSize, parseStrictPair, ValueError } from "./grammar.ts";
import type { DockerParameter } from "./parameter.ts";

export const STORAGE_PARAMETERS: readonly DockerParameter[] = [
  {
    key: "volume",
    accepts: "[host path or volume name:]container path[:options]",
    description: "Mounts a host path or a volume; a host path that begins with . is below the sandbox",
    repeats: true,
    apply: applyVolume,
  },
  {
    key: "mount",
    accepts: "type=bind|volume|tmpfs,source=…,target=…,… as the docker client takes it",
    description: "Mounts a host path, a volume or a tmpfs",
    repeats: true,
    apply(draft, value) {
      draft.host.Mounts = withValues(draft.host.Mounts, parseMount(value));
    },
  },
  {
    key: "tmpfs",
    accepts: "container path[:options]",
    description: "Mounts a tmpfs",
    repeats: true,
    apply(draft, value) {
      const colon = value.indexOf(":");
      const path = parseContainerPath(colon === -1 ? value : value.slice(0, colon));
      draft.host.Tmpfs = withEntry(draft.host.Tmpfs, path, colon === -1 ? "" : value.slice(colon + 1));
    },
  },
  {
    key: "volume-driver",
    accepts: "a driver's name",
    description: "Driver of named volumes; a relative `host_path` of a volume then is a volume's name",
    apply(draft, value) {
      draft.host.VolumeDriver = value;
    },
  },
  {
    key: "volumes-from",
    accepts: "container[:ro|rw]",
    description: "Mounts the volumes of another container",
    repeats: true,
    apply(draft, value) {
      draft.host.VolumesFrom = withValues(draft.host.VolumesFrom, value);
    },
  },
  {
    key: "read-only",
    accepts: "true|false",
    description: "Mounts the root file system read-only",
    apply(draft, value) {
      draft.host.ReadonlyRootfs = parseBoolean(value);
    },
  },
  {
    key: "storage-opt",
    accepts: "name=value",
    description: "Option of the storage driver",
    repeats: true,
    apply(draft, value) {
      const option = parseStrictPair(value);
      draft.host.StorageOpt = withEntry(draft.host.StorageOpt, option.key, option.value);
    },
  },
  {
    key: "log-driver",
    accepts: "a log driver's name",
    description: "Where the engine writes the container's output",
    apply(draft, value) {
      draft.host.LogConfig = { Type: value, Config: draft.host.LogConfig?.Config ?? {} };
    },
  },
  {
    key: "log-opt",
    accepts: "name=value",
    description: "Option of the log driver",
    repeats: true,
    apply(draft, value) {
      const option = parseStrictPair(value);
      draft.host.LogConfig = {
        Type: draft.host.LogConfig?.Type ?? "",
        Config: withEntry(draft.host.LogConfig?.Config, option.key, option.value),
      };
    },
  },
];

function applyVolume(draft: Draft, value: string): void {
  const parts = value.split(":");
  if (parts.length > 3) throw new ValueError("is not of the form [source:]target[:options]");
  if (parts.length === 1) {
    draft.body.Volumes = withEntry(draft.body.Volumes, parseContainerPath(value), {});
    return;
  }
  const [source = "", target = "", options] = parts;
  if (source === "") throw new ValueError("has no source before its ':'");
  parseContainerPath(target);
  const from = source.startsWith(".") ? posix.join(draft.sandbox, source) : source;
  draft.host.Binds = withValues(draft.host.Binds, [from, target, ...(options === undefined ? [] : [options])].join(":"));
}

type MountField = (mount: Mount, value: string) => void;

const MOUNT_FIELDS: Readonly<Record<string, MountField>> = {
  type(mount, value) {
    if (!["bind", "volume", "tmpfs", "npipe", "cluster", "image"].includes(value))
      throw new ValueError("has a type other than bind, volume and tmpfs");
    mount.Type = value as Mount["Type"];
  },
  source(mount, value) {
    mount.Source = value;
  },
  target(mount, value) {
    mount.Target = parseContainerPath(value);
  },
  readonly(mount, value) {
    if (parseBoolean(value)) mount.ReadOnly = true;
  },
  consistency(mount, value) {
    mount.Consistency = value;
  },
  "bind-propagation"(mount, value) {
    mount.BindOptions = { ...mount.BindOptions, Propagation: value };
  },
  "bind-nonrecursive"(mount, value) {
    mount.BindOptions = { ...mount.BindOptions, NonRecursive: parseBoolean(value) };
  },
  "bind-recursive"(mount, value) {
    if (value === "enabled") return;
    const field = { disabled: "NonRecursive", writable: "ReadOnlyNonRecursive", readonly: "ReadOnlyForceRecursive" }[value];
    if (field === undefined) throw new ValueError("has a bind-recursive other than enabled, disabled, writable and readonly");
    mount.BindOptions = { ...mount.BindOptions, [field]: true };
  },
  "volume-nocopy"(mount, value) {
    mount.VolumeOptions = { ...mount.VolumeOptions, NoCopy: parseBoolean(value) };
  },
  "volume-subpath"(mount, value) {
    mount.VolumeOptions = { ...mount.VolumeOptions, Subpath: value };
  },
  "volume-label"(mount, value) {
    const label = parsePair(value);
    mount.VolumeOptions = { ...mount.VolumeOptions, Labels: withEntry(mount.VolumeOptions?.Labels, label.key, label.value) };
  },
  "volume-driver"(mount, value) {
    mount.VolumeOptions = { ...mount.VolumeOptions, DriverConfig: { ...mount.VolumeOptions?.DriverConfig, Name: value } };
  },
  "volume-opt"(mount, value) {
    const option = parsePair(value);
    const config = mount.VolumeOptions?.DriverConfig;
    mount.VolumeOptions = {
      ...mount.VolumeOptions,
      DriverConfig: { ...config, Options: withEntry(config?.Options, option.key, option.value) },
    };
  },
  "tmpfs-size"(mount, value) {
    mount.TmpfsOptions = { ...mount.TmpfsOptions, SizeBytes: parseSize(value) };
  },
  "tmpfs-mode"(mount, value) {
    if (!/^[0-7]{1,5}$/.test(value)) throw new ValueError("has a tmpfs-mode that is no octal number");
    mount.TmpfsOptions = { ...mount.TmpfsOptions, Mode: Number.parseInt(value, 8) };
  },
};

const MOUNT_ALIASES: Readonly<Record<string, string>> = { src: "source", dst: "target", destination: "target", ro: "readonly" };
const BARE_MOUNT_FIELDS = ["readonly", "volume-nocopy", "bind-nonrecursive"];

function parseMount(value: string): Mount {
  const mount: Mount = { Type: "volume", Target: "" };
  for (const field of parseFields(value)) {
    const { key: written, value: part } = parsePair(field);
    const key = MOUNT_ALIASES[written.toLowerCase()] ?? written.toLowerCase();
    const set = Object.hasOwn(MOUNT_FIELDS, key) ? MOUNT_FIELDS[key] : undefined;
    if (set === undefined) throw new ValueError(`knows the fields ${Object.keys(MOUNT_FIELDS).join(", ")}`);
    if (!field.includes("=") && !BARE_MOUNT_FIELDS.includes(key)) throw new ValueError(`has the field ${key} without a value`);
    set(mount, part);
  }
  if (mount.Target === "") throw new ValueError("has no target");
  if (mount.Type === "bind" && !mount.Source?.startsWith("/")) throw new ValueError("has a bind without an absolute source");
  for (const [options, type] of [
    ["BindOptions", "bind"],
    ["VolumeOptions", "volume"],
    ["TmpfsOptions", "tmpfs"],
  ] as const) {
    if (mount[options] !== undefined && mount.Type !== type) throw new ValueError(`has fields of a ${type} mount but is of another type`);
  }
  return mount;
}
