import { type Environment, lookUp } from "./environment.ts";
import { type Mistake, type Origins, unfit } from "./load.ts";
import type { OptionTable } from "./option.ts";
import { type HostSettings, OPTIONS, type TaskSettings } from "./options.ts";
import { formatValue } from "./value.ts";

export interface LoadedTaskSettings {
  settings: TaskSettings;
  /** By setting: "EXECUTOR_LOGS_SINCE in the executor's environment", or where the host has it from. */
  origins: Readonly<Record<keyof TaskSettings, string>>;
  /** Overrides that do not fit. The caller fails the task (TASK_FAILED) with them. */
  mistakes: Mistake[];
  /** Overrides that are not allowed, bare names that do not fit. */
  warnings: string[];
}

/**
 * The settings of one task: the host's, and what the task's executor environment changes of them where `taskOverrides` lets it.
 * An override that is not allowed is told only under a prefixed name: LOG_HOSTNAME alone may be the application's own variable.
 */
export function taskSettings(host: { settings: HostSettings; origins: Origins }, executorEnvironment: Environment): LoadedTaskSettings {
  const allowed = new Set(host.settings.taskOverrides);
  const settings: Record<string, unknown> = {};
  const origins: Record<string, string> = {};
  const mistakes: Mistake[] = [];
  const warnings: string[] = [];

  for (const [name, option] of Object.entries(OPTIONS as OptionTable)) {
    if (option.scope !== "task") continue;
    const hostValue = host.settings[name as keyof HostSettings];
    settings[name] = hostValue;
    origins[name] = host.origins[name as keyof Origins];
    const { found, warnings: passedOver } = lookUp(name, option, executorEnvironment);
    if (!allowed.has(name)) {
      const changes =
        found !== undefined && (!found.parsed.ok || formatValue(option, found.parsed.value) !== formatValue(option, hostValue));
      if (changes && found.name.kind === "own")
        warnings.push(`${found.name.name} in the executor's environment is ignored: taskOverrides does not hold ${name}`);
      continue;
    }
    warnings.push(...passedOver);
    if (found === undefined) continue;
    const where = `${found.name.name} in the executor's environment`;
    if (!found.parsed.ok) {
      mistakes.push({ setting: name, where, problem: unfit(option, found.text, found.parsed.expected) });
      continue;
    }
    settings[name] = found.parsed.value;
    origins[name] = where;
  }
  const result = settings as unknown as TaskSettings;
  const limit = host.settings.awsRoleMaxTtl;
  if (limit !== 0 && result.awsRoleTtl > limit) {
    mistakes.push({ setting: "awsRoleTtl", where: origins.awsRoleTtl ?? "", problem: "expected at most the host's awsRoleMaxTtl" });
  }
  return { settings: result, origins: origins as LoadedTaskSettings["origins"], mistakes, warnings };
}
