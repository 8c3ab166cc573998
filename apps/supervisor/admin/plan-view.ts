import type { PlanView } from "@berth/admin-api";
import { type Hook, type HookTask, STAGES } from "@berth/hooks";
import type { TaskInfo } from "@berth/mesos/task-info";
import type { TaskIdentity } from "@berth/runtime";
import { type ContainerPlan, environmentRecord, planContainer } from "@berth/runtime/docker/plan";
import { isCommandTask, planProcess } from "../process/process-plan.ts";
import type { TaskOptions } from "../settings.ts";

export interface PlanningHost {
  hooks: readonly Hook[];
  /** Throws the TaskFailure by which the host's policy refuses a plan, or returns warnings. */
  judge: (plan: ContainerPlan, sandbox: string) => string[];
  hostname: string;
}

/** A plan before its hooks; hooks are told which runtime it is. */
type Planned = Omit<PlanView, "hooks" | "runtime"> & Pick<HookTask, "runtime">;

/** The ids that a launch would have are not known yet; names derived from them differ. */
const SOME_RUN: Omit<TaskIdentity, "taskId"> = { frameworkId: "<framework>", executorId: "<executor>", containerId: "<container>" };

/** Plans a task as a launch would. Throws the TaskFailure that the launch would end with. */
export function planView(task: TaskInfo, options: TaskOptions, host: PlanningHost): PlanView {
  const identity = { ...SOME_RUN, taskId: task.task_id.value };
  const surroundings = { executorEnvironment: {}, agentHostname: host.hostname, sandbox: "<sandbox>" };
  const planned = isCommandTask(task)
    ? planCommand(task, identity, options)
    : planDocker(task, identity, options, { ...surroundings, judge: host.judge });
  const hookTask: HookTask = { identity, runtime: planned.runtime, task, environment: planned.environment, ...surroundings };
  return { ...planned, hooks: STAGES.flatMap((stage) => hooksOf(host.hooks, stage, hookTask)) };
}

function hooksOf(hooks: readonly Hook[], stage: (typeof STAGES)[number], task: HookTask): PlanView["hooks"] {
  return hooks.flatMap((hook) => {
    const does = hook.stages[stage] === undefined ? undefined : hook.describe(task);
    return does === undefined ? [] : [{ stage, hook: hook.name, does }];
  });
}

function planDocker(
  task: TaskInfo,
  identity: TaskIdentity,
  options: TaskOptions,
  {
    judge,
    ...surroundings
  }: { executorEnvironment: Record<string, string>; agentHostname: string; sandbox: string; judge: PlanningHost["judge"] },
): Planned {
  const plan = planContainer({ identity, task, ...surroundings, executorArguments: [], worker: { pid: 1 }, options: options.docker });
  return {
    runtime: "docker",
    name: plan.name,
    image: plan.image.written,
    create: plan.create,
    environment: environmentRecord(plan.environment),
    withheld: plan.withheldVariables,
    gracePeriodMs: plan.stopTimeoutMs,
    warnings: [...plan.warnings, ...judge(plan, surroundings.sandbox)],
  };
}

function planCommand(task: TaskInfo, identity: TaskIdentity, options: TaskOptions): Planned {
  const plan = planProcess(task, identity, { sandbox: "<sandbox>", path: undefined, process: { pid: 1 } });
  return {
    runtime: "process",
    name: `process of ${identity.taskId}`,
    argv: plan.argv,
    environment: plan.environment,
    withheld: plan.withheld,
    gracePeriodMs: (task.kill_policy?.grace_period?.nanoseconds ?? options.killTaskTimeoutMs * 1e6) / 1e6,
    warnings: plan.warnings,
  };
}
