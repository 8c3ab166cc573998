import type { CommandInfo, TaskInfo } from "@berth/mesos/task-info";

/** Secrets that a TaskInfo carries by value (`Environment.Variable` of type SECRET), decoded. */
export function secretValues(task: TaskInfo): Array<{ name: string; value: string }> {
  const found: Array<{ name: string; value: string }> = [];
  for (const command of [task.command, task.executor?.command]) {
    for (const { name, secret } of command?.environment?.variables ?? []) {
      if (secret?.value !== undefined) found.push({ name, value: Buffer.from(secret.value.data, "base64").toString("utf8") });
    }
  }
  return found;
}

/** The TaskInfo as it may be shown: secret values are left out, references stay as written. */
export function withoutSecrets(task: TaskInfo): TaskInfo {
  return {
    ...task,
    ...(task.command === undefined ? {} : { command: cleaned(task.command) }),
    ...(task.executor?.command === undefined ? {} : { executor: { ...task.executor, command: cleaned(task.executor.command) } }),
  };
}

function cleaned(command: CommandInfo): CommandInfo {
  if (command.environment === undefined) return command;
  const variables = command.environment.variables.map((variable) => {
    if (variable.secret?.value === undefined) return variable;
    const { value: _value, ...secret } = variable.secret;
    return { ...variable, secret };
  });
  return { ...command, environment: { variables } };
}
