import { parseMesosDuration } from "@berth/duration";
import type { TaskInfo } from "@berth/mesos/task-info";
import type { PlanInput } from "../../runtime.ts";
import { type ImageReference, parseImageReference } from "../image-reference.ts";
import { applyCommand } from "./command.ts";
import type { CreateBody } from "./create-body.ts";
import { type Draft, type NetworkAttachment, newDraft } from "./draft.ts";
import { type DropInFlags, isDropIn, parseDropInFlags } from "./drop-in.ts";
import { type PlannedVariable, planEnvironment } from "./environment.ts";
import { berthLabels, nameFor } from "./identity.ts";
import { invalidField } from "./invalid.ts";
import { applyNetwork, applyPorts, warnOfUnusedPorts } from "./networking.ts";
import type { DockerTaskOptions } from "./options.ts";
import { ULIMITS } from "./parameters/limits.ts";
import { applyParameters } from "./parameters/table.ts";
import { applyResources } from "./resources.ts";
import { applyVolumes, DEFAULT_MAPPED_DIRECTORY } from "./volumes.ts";

/** A container that could be created for a task: plain data, the same for the same input, so that policy and people can look at it first. */
export interface ContainerPlan {
  name: string;
  image: ImageReference;
  forcePull: boolean;
  /** `os/arch[/variant]`, for pull and create; absent: the engine's own. */
  platform?: string;
  /** The create request without its environment: see {@link createBody}. */
  create: CreateBody;
  environment: PlannedVariable[];
  /** The executor's variables that were not passed on, by name. */
  withheldVariables: string[];
  /** To connect after the create and before the start: the engine takes one network at creation. */
  networksToConnect: NetworkAttachment[];
  /** Grace period between the first signal and SIGKILL, where a KILL names none. */
  stopTimeoutMs: number;
  /** All labels, those of the task and Berth's own. */
  labels: Record<string, string>;
  /** What was taken differently from how it was written, a sentence each. */
  warnings: string[];
}

/**
 * Maps a task to a container. Pure: nothing is read but the input. Throws a `TaskFailure` and nothing else: TASK_ERROR for an
 * invalid TaskInfo, TASK_FAILED for a docker parameter that Berth does not take; each names the field and what is accepted.
 */
export function planContainer(input: PlanInput<DockerTaskOptions>): ContainerPlan {
  const { task, identity, options } = input;
  const docker = task.container?.docker;
  if (docker === undefined) throw invalidField("container.docker", "a task for Docker needs it");
  const flags = parseDropInFlags(input.executorArguments);
  const image = parseImageReference(docker.image);
  const name = nameFor(identity, flags, options);
  const mappedDirectory = flags.mappedDirectory ?? options.mappedDirectory;
  const sandbox = flags.sandboxDirectory ?? input.sandbox;

  const draft = newDraft(docker.image, sandbox, executorVariables(task));
  for (const flag of flags.unknown) draft.warnings.push(`the executor's command line has ${flag}, which means nothing to Berth`);
  if (docker.privileged) draft.host.Privileged = true;
  applyRlimits(draft, task);
  applyPorts(draft, task);
  // From here on, what a parameter has set stays: it is the more exact word, and Mesos's docker executor puts it last as well.
  applyParameters(draft, docker.parameters);
  if (draft.ulimits.size > 0) draft.host.Ulimits = [...draft.ulimits.values()];
  applyCommand(draft, task);
  const networksToConnect = applyNetwork(draft, task, flags);
  warnOfUnusedPorts(draft);
  applyVolumes(draft, task, { sandbox, mapped: mappedDirectory ?? DEFAULT_MAPPED_DIRECTORY, mountSandbox: mappedDirectory !== undefined });
  applyResources(draft, task, flags, options);

  const environment = planEnvironment(draft, input, { flags, image, name, mappedDirectory });
  const stopTimeoutMs = stopTimeout(draft, input, flags);
  draft.body.Labels = { ...Object.fromEntries(draft.labels), ...berthLabels(input, stopTimeoutMs) };
  return {
    name,
    image,
    forcePull: docker.force_pull_image,
    ...(draft.platform === undefined ? {} : { platform: draft.platform }),
    create: draft.body,
    environment: environment.variables,
    withheldVariables: environment.withheld,
    networksToConnect,
    stopTimeoutMs,
    labels: draft.body.Labels,
    warnings: draft.warnings,
  };
}

/** The final create request: the plan's with an environment, usually its own with secrets resolved and the hooks' variables added. */
export function createBody(plan: Pick<ContainerPlan, "create">, environment: Iterable<{ name: string; value: string }>): CreateBody {
  return { ...plan.create, Env: Array.from(environment, ({ name, value }) => `${name}=${value}`) };
}

/** The environment as a record, for hooks and the admin API. */
export function environmentRecord(variables: Iterable<{ name: string; value: string }>): Record<string, string> {
  return Object.fromEntries(Array.from(variables, ({ name, value }) => [name, value]));
}

/** Looks up plain variables of the executor's command as the scheduler wrote it; the last of a name counts. */
function executorVariables(task: TaskInfo): (name: string) => string | undefined {
  const variables = task.executor?.command?.environment?.variables ?? [];
  return (name) => variables.findLast((variable) => variable.name === name && variable.type !== "SECRET")?.value;
}

/** `container.rlimit_info`: Mesos's names are the kernel's with another prefix. */
function applyRlimits(draft: Draft, task: TaskInfo): void {
  for (const [index, { type, soft, hard }] of (task.container?.rlimit_info?.rlimits ?? []).entries()) {
    const name = type.replace(/^RLMT_/, "").toLowerCase();
    if (!ULIMITS.includes(name))
      throw invalidField(`container.rlimit_info.rlimits.${index}.type`, `accepted: RLMT_ and one of ${ULIMITS.join(", ")}`);
    draft.ulimits.set(name, { Name: name, Soft: ulimit(soft), Hard: ulimit(hard) });
  }
}

/** -1 stands for no limit; the kernel's own "infinity" is beyond what JSON numbers hold. */
function ulimit(value: number | undefined): number {
  return value !== undefined && Number.isSafeInteger(value) ? value : -1;
}

/**
 * The task's own kill policy, then its `stop-timeout` parameter, then the command line, then the setting. Mesos's docker
 * executor takes the longer of `--stop_timeout` and the executor's shutdown grace period: agents pass `--stop_timeout=0ns`
 * unless somebody set it, so the flag alone would kill every task at once.
 */
function stopTimeout(draft: Draft, { task, executorEnvironment, options }: PlanInput<DockerTaskOptions>, flags: DropInFlags): number {
  const policy = task.kill_policy?.grace_period?.nanoseconds;
  if (policy !== undefined) return Math.round(policy / 1e6);
  if (draft.body.StopTimeout !== undefined) return draft.body.StopTimeout * 1000;
  if (!isDropIn(flags)) return options.killTaskTimeoutMs;
  const shutdown = parseMesosDuration(executorEnvironment.MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD ?? "") ?? options.killTaskTimeoutMs;
  return Math.max(flags.stopTimeoutMs ?? 0, shutdown);
}
