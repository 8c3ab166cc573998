import { Buffer } from "node:buffer";
import type { TaskInfo, Variable } from "@berth/mesos/task-info";
import type { PlanInput } from "../../runtime.ts";
import { type ImageReference, serviceVersion } from "../image-reference.ts";
import type { Draft } from "./draft.ts";
import { type DropInFlags, isDropIn } from "./drop-in.ts";
import { invalidField } from "./invalid.ts";
import { portMappings } from "./networking.ts";
import type { DockerTaskOptions } from "./options.ts";

/** Where a variable of the container comes from. */
export type EnvironmentOrigin = "executor environment" | "TaskInfo command" | "docker parameter env" | "agent" | "Berth";

export interface PlannedVariable {
  readonly name: string;
  /** As written: a `vault://` reference is not resolved yet. */
  readonly value: string;
  readonly origin: EnvironmentOrigin;
}

export interface PlannedEnvironment {
  /** Each name once, in the order in which they were first set. */
  variables: PlannedVariable[];
  /** Names of the executor's variables that stay with the executor. */
  withheld: string[];
}

/**
 * What of the executor's command environment never reaches a container by itself: the settings of Berth and of the executors
 * it replaces, and everything that opens Vault or the agent. Those executors copy all of it, passwords included, into every
 * container, where `docker inspect` shows it. A task that wants one of them names it: in its own command environment, or by an
 * `env` parameter.
 */
const WITHHELD = /^(?:(?:EXECUTOR|VAULT|ALLEGRO|BERTH)_|MESOS_EXECUTOR_AUTHENTICATION_TOKEN$|MESOS_DOMAIN_SOCKET$)/;

/**
 * The container's environment, later ones winning: executor command, TaskInfo command, `env` parameters, then what Berth
 * itself knows (in the place of Mesos's docker executor: only what that one sets, and the agent's `--task_environment`, which
 * wins over the TaskInfo's).
 */
export function planEnvironment(
  draft: Draft,
  input: PlanInput<DockerTaskOptions>,
  facts: { flags: DropInFlags; image: ImageReference; name: string; mappedDirectory: string | undefined },
): PlannedEnvironment {
  const { task, options } = input;
  const planned = new Map<string, PlannedVariable>();
  const withheld: string[] = [];
  const set = (name: string, value: string, origin: EnvironmentOrigin): void => void planned.set(name, { name, value, origin });

  for (const [index, variable] of (task.executor?.command?.environment?.variables ?? []).entries()) {
    if (WITHHELD.test(variable.name)) withheld.push(variable.name);
    else set(variable.name, variableValue(variable, `executor.command.environment.variables.${index}`, options), "executor environment");
  }
  for (const [index, variable] of (task.command?.environment?.variables ?? []).entries()) {
    set(variable.name, variableValue(variable, `command.environment.variables.${index}`, options), "TaskInfo command");
  }
  for (const [name, value] of Object.entries(facts.flags.taskEnvironment ?? {})) set(name, value, "agent");
  for (const { name, value } of draft.environment) set(name, value, "docker parameter env");

  if (!isDropIn(facts.flags)) {
    for (const [name, value] of serviceVariables(draft, input, facts.image)) set(name, value, "Berth");
  }
  if (facts.mappedDirectory !== undefined) {
    for (const [name, value] of sandboxVariables(task, facts.name, facts.mappedDirectory)) set(name, value, "Berth");
  }
  for (const { name, value } of planned.values()) requireUsable(name, value);
  return { variables: [...planned.values()], withheld };
}

/** What sidecar-executor tells a service about itself. Host names and versions that are not known are left out. */
function* serviceVariables(draft: Draft, input: PlanInput<DockerTaskOptions>, image: ImageReference): Generator<[string, string]> {
  for (const { container_port, host_port } of portMappings(input.task)) {
    if (container_port > 0 && host_port > 0) yield [`MESOS_PORT_${container_port}`, String(host_port)];
  }
  // TASK_HOST is what schedulers that name hosts differently from the agent set for their executors.
  const taskHost = draft.executorVariable("TASK_HOST") || input.executorEnvironment.TASK_HOST || input.agentHostname;
  if (taskHost !== "") yield ["MESOS_HOSTNAME", taskHost];
  const service = draft.labels.get("ServiceName");
  if (service !== undefined) yield ["SERVICE_NAME", service];
  const environment = draft.labels.get("Environment");
  if (environment !== undefined) yield ["ENVIRONMENT", environment];
  const version = serviceVersion(image);
  if (version !== undefined) yield ["SERVICE_VERSION", version];
}

/** What Mesos's docker executor tells a task whose sandbox it mounts; set whenever the sandbox is mounted, whoever asked for that. */
function* sandboxVariables(task: TaskInfo, name: string, mappedDirectory: string): Generator<[string, string]> {
  yield ["MESOS_SANDBOX", mappedDirectory];
  yield ["MESOS_CONTAINER_NAME", name];
  const [first] = task.resources;
  const role = first?.allocation_info?.role ?? first?.role;
  if (role !== undefined) yield ["MESOS_ALLOCATION_ROLE", role];
}

function variableValue(variable: Variable, field: string, options: DockerTaskOptions): string {
  if (variable.type !== "SECRET") return variable.value ?? "";
  const { secret } = variable;
  if (secret?.type === "VALUE") {
    if (secret.value === undefined) throw invalidField(`${field}.secret.value`, "it is missing");
    return Buffer.from(secret.value.data, "base64").toString("utf8");
  }
  if (secret?.type === "REFERENCE") return referenceOf(secret.reference, `${field}.secret.reference`, options);
  throw invalidField(`${field}.secret.type`, "it must be VALUE or REFERENCE");
}

function referenceOf(reference: { name: string; key?: string | undefined } | undefined, field: string, options: DockerTaskOptions): string {
  if (reference === undefined || reference.name === "") throw invalidField(`${field}.name`, "it is missing");
  if (options.vaultAddress === undefined || options.vaultAddress === "") {
    throw invalidField(field, "a secret REFERENCE can only be resolved in Vault, and no Vault address is set on this host");
  }
  const path = reference.name.replace(/^vault:\/\//, "");
  // The path is a URL's: what would begin a query or a fragment is part of the name here.
  const encoded = path.split("/").map(encodeURIComponent).join("/");
  return `vault://${encoded}${reference.key === undefined ? "" : `?key=${encodeURIComponent(reference.key)}`}`;
}

function requireUsable(name: string, value: string): void {
  const field = `the environment variable '${name.slice(0, 80).replaceAll("\0", "\\0")}'`;
  if (name.includes("=") || name.includes("\0")) throw invalidField(field, "a name must not contain '=' or a NUL byte");
  if (value.includes("\0")) throw invalidField(field, "a value must not contain a NUL byte");
}
