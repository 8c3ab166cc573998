import { realpathSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import type { HostConfig } from "@berth/runtime/docker/plan";
import type { Policy, Refusal } from "./policy.ts";

export interface PolicyFiles {
  /** Follows symbolic links as `fs.realpathSync` does, throwing for a path that does not exist. Default: that of the host. */
  realPath?: (path: string) => string;
  /** The task's sandbox, which it may always have. */
  sandbox?: string;
}

interface Bind {
  source: string;
  readOnly: boolean;
}

/**
 * Judges where binds come from. Symbolic links are followed before the prefixes are compared: a link below an allowed prefix may
 * lead anywhere. Whoever can write below a prefix could still exchange a directory between this look and the mount; prefixes
 * should be directories that tasks cannot write to, or hold nothing but what they may have.
 */
export function judgeBinds(host: HostConfig, volumes: NonNullable<Policy["volumes"]>, files: PolicyFiles): Refusal[] {
  const refusals = bindsOf(host).flatMap((bind) => judgeBind(bind, volumes, files));
  for (const from of host.VolumesFrom ?? []) {
    refusals.push({ rule: "volumes", why: `it takes the volumes of the container '${from}'` });
  }
  return refusals;
}

function judgeBind({ source, readOnly }: Bind, volumes: NonNullable<Policy["volumes"]>, files: PolicyFiles): Refusal[] {
  const realPath = files.realPath ?? ((path: string) => realpathSync(path));
  const real = follow(source, realPath);
  const called = real === source ? `'${source}'` : `'${source}' (which is '${real}')`;
  if (files.sandbox !== undefined && isBelow(real, follow(files.sandbox, realPath))) return [];
  const fitting = volumes.filter(({ prefix }) => isBelow(real, follow(normalize(prefix), realPath)));
  if (fitting.length === 0) return [{ rule: "volumes", why: `it binds ${called}, which is below no listed prefix` }];
  // The most exact prefix decides: a read-only subtree may be listed below a writable one.
  const exact = fitting.reduce((one, other) => (normalize(other.prefix).length > normalize(one.prefix).length ? other : one));
  return exact.readOnly && !readOnly ? [{ rule: "volumes", why: `it binds ${called} writable, which is allowed read-only` }] : [];
}

/** `Binds` as `source:target[:options]`, and mounts; a source without a slash is a volume that Docker manages. */
function bindsOf(host: HostConfig): Bind[] {
  const binds: Bind[] = [];
  for (const bind of host.Binds ?? []) {
    const [source = "", , options = ""] = bind.split(":");
    if (source.startsWith("/")) binds.push({ source: normalize(source), readOnly: options.split(",").includes("ro") });
  }
  for (const { Type, Source, ReadOnly, VolumeOptions } of host.Mounts ?? []) {
    if (Type === "bind") binds.push({ source: normalize(Source ?? ""), readOnly: ReadOnly === true });
    // The local driver mounts any host path when its options say so.
    const device = VolumeOptions?.DriverConfig?.Options?.device;
    if (Type === "volume" && device?.startsWith("/")) binds.push({ source: normalize(device), readOnly: ReadOnly === true });
  }
  return binds;
}

/** The path with all its links followed; what does not exist yet (dockerd makes it) hangs below its existing part. */
function follow(path: string, realPath: (path: string) => string): string {
  try {
    return realPath(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : join(follow(parent, realPath), path.slice(parent.length));
  }
}

function isBelow(path: string, prefix: string): boolean {
  const base = prefix.endsWith("/") ? prefix : `${prefix}/`;
  return path === prefix || `${path}/`.startsWith(base);
}
