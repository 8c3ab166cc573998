import { TaskFailure } from "@berth/mesos";
import type { CommandInfo, TaskInfo, Variable } from "@berth/mesos/task-info";
import type { TaskIdentity } from "@berth/runtime";
import type { ProcessIdentity } from "../executor/process-life.ts";
import { TASK_MARK, taskMark } from "./task-mark.ts";

/** A command task before it is started: what the worker will be asked to spawn. */
export interface ProcessPlan {
  argv: string[];
  /** The child's whole environment; `vault://` references as written. */
  environment: Record<string, string>;
  origins: Record<string, string>;
  /** Variables of the executor that were not passed on, by name. */
  withheld: string[];
  user?: string;
  rlimits: Limit[];
  /** What the TaskInfo asks for and a process does not get, a sentence each. */
  warnings: string[];
}

/** A resource limit; null is none. */
interface Limit {
  type: string;
  soft: number | null;
  hard: number | null;
}

/** The agent gives executors a PATH only if the operator configured one; a shell without any cannot find `ls`. */
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * What of the executor's command environment stays with the executor: its settings, and everything that opens Vault or the
 * agent. The executors that Berth replaces hand all of it to the task. A task that wants one names it in its own command.
 */
const WITHHELD = /^(?:(?:EXECUTOR|VAULT|ALLEGRO|BERTH|CONSUL|VAAS)_|MESOS_EXECUTOR_AUTHENTICATION_TOKEN$|MESOS_DOMAIN_SOCKET$)/;

/** Mesos's names of limits (mesos.proto, RLimitInfo.RLimit.Type). */
const LIMIT = /^RLMT_(?:AS|CORE|CPU|DATA|FSIZE|LOCKS|MEMLOCK|MSGQUEUE|NICE|NOFILE|NPROC|RSS|RTPRIO|RTTIME|SIGPENDING|STACK)$/;
/** RLIM_INFINITY and what a double makes of numbers near it. */
const INFINITE_LIMIT = 2 ** 63;

/** What the plan needs to know of the worker that will start the process. */
export interface WorkerPlace {
  sandbox: string;
  /** The worker's own PATH. */
  path: string | undefined;
  process: ProcessIdentity;
}

/** Whether a TaskInfo asks for a process rather than a container. */
export function isCommandTask(task: TaskInfo): boolean {
  if (task.container?.docker !== undefined || task.container?.type === "DOCKER") return false;
  return commandOf(task) !== undefined;
}

/**
 * The command of a task: its own (a task of a LAUNCH_GROUP), else the executor's with the prefix that Marathon puts before an
 * app's `cmd` when it has a custom executor (`chmod ug+rx '<executor>' && exec '<executor>' <cmd>`). Without that prefix the
 * executor's command is what started the worker itself, and not the task's.
 */
export function commandOf(task: TaskInfo): CommandInfo | undefined {
  if (task.command !== undefined) return task.command;
  const command = task.executor?.command;
  const match = /^chmod ug\+rx '([^']*)' && exec '\1' ([\s\S]+)$/.exec(command?.value ?? "");
  return command === undefined || match === null ? undefined : { ...command, shell: true, value: match[2] as string, arguments: [] };
}

/** Maps a TaskInfo to a process. Pure; throws a TaskFailure that names the field. */
export function planProcess(task: TaskInfo, identity: TaskIdentity, worker: WorkerPlace): ProcessPlan {
  const command = commandOf(task);
  if (command === undefined) throw invalid("it has neither a Docker container nor a command of its own");
  if (command.value === undefined || command.value === "") throw invalid("command.value is missing");
  if ([command.value, ...command.arguments].some(hasNul)) throw invalid("its command holds a NUL character, which no program can be given");
  if (task.container?.mesos?.image !== undefined) {
    throw invalid("container.mesos.image: Berth runs images by Docker (container.docker), and a command without one on the host itself");
  }
  const planned = planEnvironment(task, command, identity, worker);
  return {
    argv: command.shell ? ["/bin/sh", "-c", command.value] : [command.value, ...command.arguments.slice(1)],
    ...planned,
    ...(command.user === undefined ? {} : { user: command.user }),
    rlimits: (task.container?.rlimit_info?.rlimits ?? []).map(planLimit),
    warnings: warningsFor(task),
  };
}

/** What programs cannot be given is refused before anything is started; its value is not told, because it may be a secret. */
export function checkValues(environment: Readonly<Record<string, string>>): void {
  const wrong = Object.keys(environment).find((name) => hasNul(environment[name] as string));
  if (wrong === undefined) return;
  throw new TaskFailure(
    `the value of its variable ${wrong} holds a NUL character, which no environment can; encode it, as base64 for example`,
  );
}

function hasNul(text: string): boolean {
  return text.includes("\0");
}

function planLimit({ type, soft, hard }: { type: string; soft?: number | undefined; hard?: number | undefined }): Limit {
  const where = `container.rlimit_info: ${type}`;
  if (!LIMIT.test(type)) throw invalid(`${where} is no limit that Mesos knows`);
  if ((soft === undefined) !== (hard === undefined)) throw invalid(`${where} needs both limits, soft and hard, or none for no limit`);
  if (soft !== undefined && hard !== undefined && soft > hard) throw invalid(`${where} has a soft limit above its hard limit`);
  return { type, soft: finite(soft), hard: finite(hard) };
}

function finite(limit: number | undefined): number | null {
  return limit === undefined || limit >= INFINITE_LIMIT ? null : limit;
}

function warningsFor(task: TaskInfo): string[] {
  const { container, command } = task;
  const ignored = [
    ["volumes", container?.volumes.length],
    ["network_infos", container?.network_infos.length],
    ["hostname", container?.hostname],
    ["linux_info", container?.linux_info],
  ].flatMap(([name, value]) => (value === undefined || value === 0 ? [] : [`container.${name}`]));
  const warnings =
    ignored.length === 0 ? [] : [`${ignored.join(", ")}: not applied, the task is a process on the host and not a container`];
  // The agent fetches what the executor's command names, before it starts the executor.
  if ((command?.uris.length ?? 0) > 0) warnings.push("command.uris: not fetched; the agent fetches those of the executor's command");
  return warnings;
}

/** Throws the TaskFailure that {@link planProcess} would throw for this task, wherever it ran. */
export function checkProcess(task: TaskInfo): void {
  const identity = { frameworkId: "", executorId: "", containerId: "", taskId: task.task_id.value };
  planProcess(task, identity, { sandbox: "", path: undefined, process: { pid: 0 } });
}

function planEnvironment(task: TaskInfo, command: CommandInfo, identity: TaskIdentity, worker: WorkerPlace) {
  const environment: Record<string, string> = {};
  const origins: Record<string, string> = {};
  const withheld: string[] = [];
  const set = (name: string, value: string, origin: string): void => {
    if (/[=\0]/.test(name)) throw invalid(`${JSON.stringify(name)} cannot be the name of a variable`);
    environment[name] = value;
    origins[name] = origin;
  };
  set("PATH", worker.path ?? DEFAULT_PATH, "Berth");
  set("MESOS_SANDBOX", worker.sandbox, "Berth");
  set("MESOS_TASK_ID", identity.taskId, "Berth");
  set("MESOS_EXECUTOR_ID", identity.executorId, "Berth");
  set("MESOS_FRAMEWORK_ID", identity.frameworkId, "Berth");
  for (const variable of task.executor?.command?.environment?.variables ?? []) {
    if (WITHHELD.test(variable.name)) withheld.push(variable.name);
    else set(variable.name, textOf(variable), "executor environment");
  }
  if (task.command !== undefined) {
    for (const variable of command.environment?.variables ?? []) set(variable.name, textOf(variable), "TaskInfo command");
  }
  set(TASK_MARK, taskMark(identity, worker.process), "Berth");
  return { environment, origins, withheld };
}

function textOf(variable: Variable): string {
  if (variable.type !== "SECRET") return variable.value ?? "";
  const { secret } = variable;
  if (secret?.type === "VALUE" && secret.value !== undefined) return Buffer.from(secret.value.data, "base64").toString("utf8");
  if (secret?.type === "REFERENCE" && secret.reference !== undefined) {
    const { name, key } = secret.reference;
    return `vault://${name.replace(/^vault:\/\//, "")}${key === undefined ? "" : `?key=${encodeURIComponent(key)}`}`;
  }
  throw invalid(`the secret of the variable ${variable.name} has neither a value nor a reference`);
}

function invalid(what: string): TaskFailure {
  return new TaskFailure(`the TaskInfo is invalid: ${what}`, { state: "TASK_ERROR", reason: "REASON_TASK_INVALID" });
}
