import { type Environment, isPrefixed, lookUp, unknownVariables } from "./environment.ts";
import { type Mistake, type Origins, unfit } from "./load.ts";
import type { OptionRecord, OptionTable } from "./option.ts";
import { type HostSettings, OPTIONS, type TaskSettings } from "./options.ts";
import { formatValue, type Parsed } from "./value.ts";

export interface LoadedTaskSettings {
  settings: TaskSettings;
  /** By setting: "EXECUTOR_LOGS_SINCE in the executor's environment", or where the host has it from. */
  origins: Readonly<Record<keyof TaskSettings, string>>;
  /** Overrides that do not fit. The caller fails the task (TASK_FAILED) with them. */
  mistakes: Mistake[];
  /** Overrides that are not allowed, settings of the host and unknown ones under our prefixes, bare names that do not fit. */
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
  const warnings = unknownVariables(OPTIONS, executorEnvironment, "the executor's environment");

  for (const [name, option] of Object.entries(OPTIONS as OptionTable)) {
    const hostValue = host.settings[name as keyof HostSettings];
    if (option.scope !== "task") {
      warnings.push(...withoutEffect(name, option, hostValue, executorEnvironment));
      continue;
    }
    settings[name] = hostValue;
    origins[name] = host.origins[name as keyof Origins];
    const { found, warnings: passedOver } = lookUp(name, option, executorEnvironment);
    if (!allowed.has(name)) {
      if (found !== undefined && found.name.kind === "own" && differs(option, found.parsed, hostValue))
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

/** A setting of the host in the environment of one task: the executors that Berth replaces read theirs there. */
function withoutEffect(name: string, option: OptionRecord, hostValue: unknown, environment: Environment): string[] {
  if (option.readBy === "worker") return [];
  const { found } = lookUp(name, option, environment);
  if (found === undefined || !isPrefixed(found.name.name)) return [];
  const where = `${found.name.name} in the executor's environment`;
  if (option.unsupported !== undefined) return [`${where} has no effect: ${option.unsupported}`];
  return differs(option, found.parsed, hostValue) ? [`${where} is ignored: ${name} is a setting of the host`] : [];
}

function differs(option: OptionRecord, parsed: Parsed, hostValue: unknown): boolean {
  return !parsed.ok || formatValue(option, parsed.value) !== formatValue(option, hostValue);
}
