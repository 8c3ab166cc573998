/** Parameters of privileges, devices and namespaces. */
import { type Draft, withEntry, withValues } from "../draft.ts";
import { parseBoolean, parseFields, parseInteger, parsePair, parseStrictPair, ValueError } from "./grammar.ts";
import type { DockerParameter } from "./parameter.ts";

export const SECURITY_PARAMETERS: readonly DockerParameter[] = [
  {
    key: "cap-add",
    accepts: "a capability, or ALL",
    description: "Adds a Linux capability",
    repeats: true,
    apply(draft, value) {
      draft.host.CapAdd = withValues(draft.host.CapAdd, capability(value));
    },
  },
  {
    key: "cap-drop",
    accepts: "a capability, or ALL",
    description: "Takes a Linux capability away",
    repeats: true,
    apply(draft, value) {
      draft.host.CapDrop = withValues(draft.host.CapDrop, capability(value));
    },
  },
  {
    key: "privileged",
    accepts: "true|false",
    description: "Gives every privilege, like `container.docker.privileged`",
    apply(draft, value) {
      draft.host.Privileged = parseBoolean(value);
    },
  },
  {
    key: "security-opt",
    accepts: "no-new-privileges, apparmor=…, label=…, systempaths=unconfined, seccomp=unconfined|builtin|<the profile itself as JSON>",
    description: "Sets a security option",
    repeats: true,
    apply: applySecurityOption,
  },
  {
    key: "sysctl",
    accepts: "name=value",
    description: "Sets a namespaced kernel parameter",
    repeats: true,
    apply(draft, value) {
      const sysctl = parsePair(value);
      draft.host.Sysctls = withEntry(draft.host.Sysctls, sysctl.key, sysctl.value);
    },
  },
  {
    key: "device",
    accepts: "host path[:container path][:permissions of r, w, m], or a CDI name vendor/class=name",
    description: "Gives a device of the host",
    repeats: true,
    apply: applyDevice,
  },
  {
    key: "device-cgroup-rule",
    accepts: "a rule like c 1:3 rwm",
    description: "Adds a rule to the allowed devices",
    repeats: true,
    apply(draft, value) {
      if (!/^[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}$/.test(value)) throw new ValueError("is not a rule like c 1:3 rwm");
      draft.host.DeviceCgroupRules = withValues(draft.host.DeviceCgroupRules, value);
    },
  },
  {
    key: "gpus",
    accepts: "all, a number, or device=…,driver=…,count=…,capabilities=…,options=…",
    description: "Gives GPUs",
    repeats: true,
    apply: applyGpus,
  },
  text("ipc", "IpcMode", "none, private, shareable, host or container:<name>", "IPC namespace to use"),
  text("pid", "PidMode", "host or container:<name>", "PID namespace to use"),
  text("uts", "UTSMode", "host", "UTS namespace to use"),
  text("userns", "UsernsMode", "host", "User namespace to use"),
  text("cgroupns", "CgroupnsMode", "host or private", "Cgroup namespace to use"),
  text("cgroup-parent", "CgroupParent", "a cgroup or slice", "Parent cgroup of the container"),
  text("isolation", "Isolation", "default", "Isolation technology"),
  text("runtime", "Runtime", "a runtime that the engine knows", "OCI runtime to use"),
];

function text(
  key: string,
  field: "IpcMode" | "PidMode" | "UTSMode" | "UsernsMode" | "CgroupnsMode" | "CgroupParent" | "Isolation" | "Runtime",
  accepts: string,
  description: string,
): DockerParameter {
  return {
    key,
    accepts,
    description,
    apply(draft, value) {
      draft.host[field] = value;
    },
  };
}

function capability(value: string): string {
  const name = value.toUpperCase();
  if (!/^[A-Z_]+$/.test(name)) throw new ValueError("is not the name of a capability like NET_ADMIN");
  return name === "ALL" || name.startsWith("CAP_") ? name : `CAP_${name}`;
}

function applySecurityOption(draft: Draft, value: string): void {
  if (value === "systempaths=unconfined") {
    draft.host.MaskedPaths = [];
    draft.host.ReadonlyPaths = [];
    return;
  }
  const match = /^([a-z-]+)(?:[=:]([\s\S]*))?$/.exec(value);
  if (match === null || (match[2] === undefined && match[1] !== "no-new-privileges"))
    throw new ValueError("is not of the form option=value");
  if (match[1] === "seccomp" && match[2] !== "unconfined" && match[2] !== "builtin") {
    // The docker client reads the file that is named here. The supervisor runs as root: it reads no file because a task says so.
    draft.host.SecurityOpt = withValues(draft.host.SecurityOpt, `seccomp=${inlineProfile(match[2] ?? "")}`);
    return;
  }
  draft.host.SecurityOpt = withValues(draft.host.SecurityOpt, value);
}

function inlineProfile(profile: string): string {
  try {
    return JSON.stringify(JSON.parse(profile));
  } catch {
    throw new ValueError("must hold the seccomp profile itself as JSON: no file is read for a task");
  }
}

function applyDevice(draft: Draft, value: string): void {
  if (/^[a-zA-Z][\w.-]*\/[a-zA-Z][\w.-]*=[\w.:-]+$/.test(value)) {
    const request = { Driver: "cdi", Count: 0, DeviceIDs: [value], Capabilities: null, Options: null };
    draft.host.DeviceRequests = withValues(draft.host.DeviceRequests, request);
    return;
  }
  const [source = "", second, third, ...more] = value.split(":");
  const isPermissions = (part: string | undefined): part is string => part !== undefined && /^[rwm]{1,3}$/.test(part);
  const target = second === undefined || isPermissions(second) ? source : second;
  const permissions = third ?? (isPermissions(second) ? second : "rwm");
  if (!source.startsWith("/") || !target.startsWith("/") || !isPermissions(permissions) || more.length > 0) {
    throw new ValueError("is not of the form host path[:container path][:rwm]");
  }
  draft.host.Devices = withValues(draft.host.Devices, { PathOnHost: source, PathInContainer: target, CgroupPermissions: permissions });
}

function applyGpus(draft: Draft, value: string): void {
  const request = {
    Driver: "",
    Count: 0,
    DeviceIDs: null as string[] | null,
    Capabilities: [] as string[],
    Options: {} as Record<string, string>,
  };
  let counted = false;
  for (const field of parseFields(value)) {
    const { key, value: part } = field.includes("=") ? parseStrictPair(field) : { key: "count", value: field };
    if (key === "count") {
      request.Count = part === "all" ? -1 : parseInteger(part, 0);
      counted = true;
    } else if (key === "device") request.DeviceIDs = part.split(",");
    else if (key === "driver") request.Driver = part;
    else if (key === "capabilities") request.Capabilities.push(...part.split(","));
    else if (key === "options") {
      for (const option of parseFields(part)) {
        const pair = parsePair(option);
        request.Options = withEntry(request.Options, pair.key, pair.value);
      }
    } else throw new ValueError("knows the fields count, device, driver, capabilities and options");
  }
  if (!counted && request.DeviceIDs === null) request.Count = 1;
  const capabilities = request.Capabilities.includes("gpu") ? request.Capabilities : [...request.Capabilities, "gpu"];
  draft.host.DeviceRequests = withValues(draft.host.DeviceRequests, { ...request, Capabilities: [capabilities] });
}
