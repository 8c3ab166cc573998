import { TaskFailure } from "@berth/mesos";
import { canonicalName, type ImageReference } from "@berth/runtime/docker/image-reference";
import type { CreateBody, HostConfig } from "@berth/runtime/docker/plan";
import { judgeBinds, type PolicyFiles } from "./binds.ts";
import type { Policy, Refusal } from "./policy.ts";

/**
 * Judges the final create request, after all hooks. An empty list: the task may run. Entries with `warning` do not stop it.
 *
 * Fields that no rule knows are let through: the plan only makes ones that Berth's parameters table names.
 */
export function judgePlan(create: CreateBody, image: ImageReference, policy: Policy, files: PolicyFiles = {}): Refusal[] {
  const host = create.HostConfig;
  return [
    ...privileged(host, policy),
    ...network(create, policy),
    ...namespaces(host, policy),
    ...capabilities(host, policy),
    ...devices(host, policy),
    ...securityOptions(host, policy),
    ...(policy.volumes === undefined ? [] : judgeBinds(host, policy.volumes, files)),
    ...images(image, policy),
    ...limits(host, policy),
    ...users(create, policy),
  ];
}

/** Throws a {@link TaskFailure} that names every rule that refuses; returns the warnings. */
export function enforcePolicy(refusals: readonly Refusal[]): string[] {
  const refused = refusals.filter(({ warning }) => warning !== true);
  if (refused.length === 0) return refusals.map(({ rule, why }) => `policy.${rule}: ${why}`);
  const reasons = refused.map(({ rule, why }) => `${why} (policy.${rule})`);
  throw new TaskFailure(`this host's policy refuses the task: ${reasons.join("; ")}`, { reason: "REASON_TASK_UNAUTHORIZED" });
}

function privileged(host: HostConfig, policy: Policy): Refusal[] {
  if (host.Privileged !== true || policy.privileged === "allow") return [];
  const why = "it asks for a privileged container, which is root on the host";
  return [{ rule: "privileged", why, ...(policy.privileged === "warn" ? { warning: true } : {}) }];
}

function network(create: CreateBody, policy: Policy): Refusal[] {
  const mode = create.HostConfig.NetworkMode ?? "default";
  if (mode === "host" || mode.startsWith("container:")) {
    return policy.hostNetwork === "allow" ? [] : [{ rule: "hostNetwork", why: `it asks for the network '${mode}'` }];
  }
  const asked = new Set([mode, ...Object.keys(create.NetworkingConfig?.EndpointsConfig ?? {})]);
  const allowed = policy.networks;
  if (allowed === undefined) return [];
  const refused = [...asked].filter((name) => !allowed.includes(name === "default" ? "bridge" : name));
  return refused.map((name) => ({ rule: "networks", why: `it asks for the network '${name}'` }));
}

function namespaces(host: HostConfig, policy: Policy): Refusal[] {
  if (policy.hostNamespaces === "allow") return [];
  const modes = { pid: host.PidMode, ipc: host.IpcMode, uts: host.UTSMode, cgroup: host.CgroupnsMode, user: host.UsernsMode };
  return Object.entries(modes)
    .filter(([, mode]) => mode === "host" || mode?.startsWith("container:"))
    .map(([name, mode]) => ({ rule: "hostNamespaces", why: `it asks for the ${name} namespace '${mode}'` }));
}

function capabilities(host: HostConfig, policy: Policy): Refusal[] {
  const allowed = policy.capabilities?.map(capabilityName);
  if (allowed === undefined) return [];
  return (host.CapAdd ?? [])
    .filter((name) => !allowed.includes(capabilityName(name)))
    .map((name) => ({ rule: "capabilities", why: `it asks for the capability ${capabilityName(name)}` }));
}

function capabilityName(name: string): string {
  return name.toUpperCase().replace(/^CAP_/, "");
}

/** Device requests (GPUs) are named by their driver, cgroup rules as they are written. */
function devices(host: HostConfig, policy: Policy): Refusal[] {
  const allowed = policy.devices;
  if (allowed === undefined) return [];
  const asked = [
    ...(host.Devices ?? []).map(({ PathOnHost }) => PathOnHost),
    ...(host.DeviceRequests ?? []).map(({ Driver, Capabilities }) => Driver || (Capabilities ?? []).flat().join(",") || "gpu"),
    ...(host.DeviceCgroupRules ?? []),
  ];
  return asked.filter((name) => !matchesAny(name, allowed)).map((name) => ({ rule: "devices", why: `it asks for the device '${name}'` }));
}

function securityOptions(host: HostConfig, policy: Policy): Refusal[] {
  const allowed = policy.securityOptions;
  if (allowed === undefined) return [];
  return (host.SecurityOpt ?? [])
    .filter((option) => !matchesAny(option.replace(/^([\w-]+):/, "$1="), allowed))
    .map((option) => ({ rule: "securityOptions", why: `it gives the security option '${option.slice(0, 80)}'` }));
}

function images(image: ImageReference, policy: Policy): Refusal[] {
  const refusals: Refusal[] = [];
  if (policy.imageDigest && image.digest === undefined) {
    refusals.push({ rule: "imageDigest", why: `the image ${image.written} is not named by its digest` });
  }
  if (policy.images !== undefined && !policy.images.some((pattern) => imageMatches(image, pattern))) {
    refusals.push({ rule: "images", why: `the image ${canonicalName(image)} is on no list` });
  }
  return refusals;
}

/** Without tag or digest a pattern stands for all of them. */
function imageMatches(image: ImageReference, pattern: string): boolean {
  const repository = `${image.registry}/${image.repository}`;
  if (pattern.endsWith("*")) return canonicalName(image).startsWith(pattern.slice(0, -1));
  return [repository, `${repository}:${image.tag}`, `${repository}@${image.digest}`, canonicalName(image)].includes(pattern);
}

function limits(host: HostConfig, policy: Policy): Refusal[] {
  const given = {
    memory: (host.Memory ?? 0) > 0,
    cpu: (host.CpuQuota ?? 0) > 0 || (host.NanoCpus ?? 0) > 0,
    pids: (host.PidsLimit ?? 0) > 0,
  };
  return policy.requiredLimits.filter((name) => !given[name]).map((name) => ({ rule: "requiredLimits", why: `it has no ${name} limit` }));
}

function users(create: CreateBody, policy: Policy): Refusal[] {
  if (policy.users === undefined || policy.users.includes(create.User ?? "")) return [];
  return [{ rule: "users", why: create.User ? `it asks to run as the user '${create.User}'` : "it runs as the image's own user" }];
}

function matchesAny(text: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => (pattern.endsWith("*") ? text.startsWith(pattern.slice(0, -1)) : text === pattern));
}
