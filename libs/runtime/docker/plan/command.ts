import { shellWords } from "@berth/config";
import type { TaskInfo } from "@berth/mesos/task-info";
import type { Draft } from "./draft.ts";
import { invalidField } from "./invalid.ts";

/** The Docker label that holds the command of a task whose TaskInfo cannot: Mesos refuses a command beside an executor. */
export const COMMAND_LABEL = "executor.ShellCommand";

/**
 * Sets entrypoint and command. `TaskInfo.command` comes first (LAUNCH_GROUP, and in the place of Mesos's docker executor):
 * for a shell command `/bin/sh -c`, else its value and arguments behind the image's entrypoint. Without one, the label, split
 * into words as a shell would. Without both, the image's own command runs. Must run after the parameters: `entrypoint` wins,
 * and the label is one of them.
 */
export function applyCommand(draft: Draft, task: TaskInfo): void {
  const labelled = draft.labels.get(COMMAND_LABEL);
  draft.labels.delete(COMMAND_LABEL);
  const { command } = task;
  if (command !== undefined && (command.value !== undefined || command.arguments.length > 0)) {
    if (labelled !== undefined) draft.warnings.push(`the label ${COMMAND_LABEL} has no effect: the TaskInfo has a command`);
    applyCommandInfo(draft, command);
    return;
  }
  if (labelled === undefined) return;
  const words = splitLabel(labelled);
  if (words.length > 0) draft.body.Cmd = words;
}

function applyCommandInfo(draft: Draft, command: NonNullable<TaskInfo["command"]>): void {
  if (!command.shell) {
    draft.body.Cmd = [...(command.value === undefined ? [] : [command.value]), ...command.arguments];
    return;
  }
  if (command.value === undefined) throw invalidField("command.value", "a shell command needs it");
  draft.body.Entrypoint ??= ["/bin/sh"];
  draft.body.Cmd = ["-c", command.value];
}

function splitLabel(text: string): string[] {
  try {
    return shellWords(text);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw invalidField(`the label ${COMMAND_LABEL}`, `it cannot be split into words as a shell would: ${why}`);
  }
}
