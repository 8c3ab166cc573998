import { TaskFailure } from "@berth/mesos";
import { label, type TaskInfo } from "@berth/mesos/task-info";
import type { AclConfig } from "../config.ts";
import { type AllowedSources, bothOf, parseSources } from "./addresses.ts";
import type { PortRule } from "./rules.ts";

/** What a task's labels and the host's defaults ask for. */
export interface PlannedAcl {
  /** From EXECUTOR_ALLOWED_IP: who may reach the container at all. */
  inside?: AllowedSources;
  /** From EXECUTOR_<n>_ACL and the default list: who may reach a published port. */
  ports: PortRule[];
  /** The published ports, each with `inside` for its sources: they are closed before the container starts. */
  guard: PortRule[];
}

const PORT_LABEL = /^EXECUTOR_(\d+)_ACL$/;

/**
 * Reads the labels. Throws a {@link TaskFailure} where one cannot be read, or cannot be obeyed: a task that asks to be closed
 * off must not run open.
 */
export function plannedAcl(task: TaskInfo, config: Pick<AclConfig, "defaultAllowedCidr">): PlannedAcl {
  const docker = task.container?.docker;
  const published = docker !== undefined && (docker.network === "BRIDGE" || docker.network === "USER");
  const allowedIp = label(task, "EXECUTOR_ALLOWED_IP")?.trim() ?? "";
  const portLabels = (task.labels?.labels ?? []).filter(({ key }) => PORT_LABEL.test(key));
  if (!published) {
    const asked = allowedIp === "" ? portLabels[0]?.key : "EXECUTOR_ALLOWED_IP";
    // Where there is no network nobody has to be kept out.
    if (asked === undefined || docker?.network === "NONE") return { ports: [], guard: [] };
    throw new TaskFailure(`label ${asked}: only a container with a network of its own (BRIDGE or USER) can be closed off`);
  }

  const inside = allowedIp === "" ? undefined : parseSources(allowedIp, "label EXECUTOR_ALLOWED_IP");
  const defaults =
    config.defaultAllowedCidr.length === 0 ? undefined : parseSources(config.defaultAllowedCidr.join(","), "acl.defaultAllowedCidr");
  const mappings = docker.port_mappings;
  const byIndex = new Map<number, AllowedSources>();
  for (const { key, value } of portLabels) {
    const index = Number(PORT_LABEL.exec(key)?.[1]);
    if (index >= mappings.length) throw new TaskFailure(`label ${key}: the task has ${mappings.length} port mappings, counted from 0`);
    byIndex.set(index, parseSources(value, `label ${key}`));
  }

  const ports: PortRule[] = [];
  const guard: PortRule[] = [];
  for (const [index, { host_port, container_port, protocol }] of mappings.entries()) {
    if (host_port === 0) continue;
    const own = byIndex.get(index);
    const allowed = own === undefined ? defaults : defaults === undefined ? own : bothOf(own, defaults);
    for (const name of protocolsOf(protocol)) {
      const port = { hostPort: host_port, containerPort: container_port, protocol: name };
      if (allowed !== undefined) ports.push({ ...port, allowed });
      if (inside !== undefined) guard.push({ ...port, allowed: inside });
    }
  }
  return { ports, guard, ...(inside === undefined ? {} : { inside }) };
}

/** "tcp", "udp", "tcp,udp"; nothing at all means tcp. */
export function protocolsOf(written: string | undefined): string[] {
  const protocols = (written ?? "")
    .split(",")
    .map((protocol) => protocol.trim().toLowerCase())
    .filter((protocol) => /^(?:tcp|udp|sctp)$/.test(protocol));
  return protocols.length === 0 ? ["tcp"] : protocols;
}
