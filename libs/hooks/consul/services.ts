import { type DiscoveryPort, label, type TaskInfo } from "@berth/mesos/task-info";

/** One service that a task is registered with. The id follows from the task's labels alone: whoever has those can take it back. */
export interface PlannedService {
  id: string;
  name: string;
  port: number;
  tags: string[];
}

/**
 * The services that a task's labels name. Task label `consul`: the name, or "" or "true" for one made of the task id. Port label
 * `consul`: names with commas between, for that port; then the task's own name is not used. Labels with the value `tag` (on a
 * port also `tag:<service>`) are tags, in which `{port:<name>}` stands for a port's number.
 */
export function plannedServices(task: TaskInfo, globalTag: string | undefined): PlannedService[] {
  const named = label(task, "consul");
  if (named === undefined) return [];
  const taskId = task.task_id.value;
  const ports = portsOf(task);
  const common = [...tagsOf(task.labels?.labels ?? []), ...(globalTag === undefined || globalTag === "" ? [] : [globalTag])];
  const marathon = `marathon-task:${taskId}`;
  const service = (name: string, port: DiscoveryPort, own: string[]): PlannedService => ({
    id: `${taskId}_${name}_${port.number}`,
    name,
    port: port.number,
    tags: [...new Set([...own, ...common, marathon])].map((tag) => withPorts(tag, ports)),
  });

  const services = ports.flatMap((port) =>
    namesOf(portLabel(port, "consul")).map((name) => service(name, port, tagsOf(port.labels?.labels ?? [], name))),
  );
  const first = ports[0];
  if (services.length > 0 || first === undefined) return services;
  return [service(named === "" || named === "true" ? nameFromTaskId(taskId) : named, first, [])];
}

/** Ports that the framework announced; else those that are mapped; else the first of the task's resources. */
function portsOf(task: TaskInfo): DiscoveryPort[] {
  const announced = task.discovery?.ports?.ports ?? [];
  if (announced.length > 0) return announced;
  const mapped = (task.container?.docker?.port_mappings ?? []).filter(({ host_port }) => host_port !== 0);
  if (mapped.length > 0) return mapped.map(({ host_port }) => ({ number: host_port }));
  const range = task.resources.find(({ name }) => name === "ports")?.ranges?.range[0];
  return range === undefined ? [] : [{ number: range.begin }];
}

function portLabel(port: DiscoveryPort, key: string): string | undefined {
  return port.labels?.labels.findLast((entry) => entry.key === key)?.value;
}

function namesOf(value: string | undefined): string[] {
  return (value ?? "")
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
}

function tagsOf(labels: ReadonlyArray<{ key: string; value: string }>, service?: string): string[] {
  return labels
    .filter(({ value }) => value === "tag" || (service !== undefined && value.startsWith("tag:") && value.split(":")[1] === service))
    .map(({ key }) => key);
}

function withPorts(tag: string, ports: readonly DiscoveryPort[]): string {
  return tag.replace(/\{port:([^}]*)\}/g, (whole, name: string) => {
    const port = ports.find((candidate) => candidate.name === name);
    return port === undefined ? whole : String(port.number);
  });
}

/** `com.ex_app.<uuid>` → `com.ex.app`: the form that services without a name have always had. */
function nameFromTaskId(taskId: string): string {
  const dotted = taskId
    .trim()
    .replace(/^\/+|\/+$/g, "")
    .replaceAll("_", ".")
    .replaceAll("/", "-");
  return dotted.includes(".") ? dotted.slice(0, dotted.lastIndexOf(".")) : dotted;
}
