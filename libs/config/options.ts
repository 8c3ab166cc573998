import type { SettingsOf } from "./option.ts";
import { DOCKER_OPTIONS } from "./options/docker.ts";
import { HOOK_OPTIONS } from "./options/hooks.ts";
import { LOG_OPTIONS } from "./options/logs.ts";
import { SIDECAR_OPTIONS } from "./options/sidecar.ts";
import { SUPERVISOR_OPTIONS } from "./options/supervisor.ts";
import { TASK_OPTIONS } from "./options/tasks.ts";
import { VAULT_OPTIONS } from "./options/vault.ts";

/** The table by subject, as the reference shows it. */
export const OPTION_GROUPS = [
  { title: "The supervisor", options: SUPERVISOR_OPTIONS },
  { title: "Docker", options: DOCKER_OPTIONS },
  { title: "Tasks", options: TASK_OPTIONS },
  { title: "Sidecar", options: SIDECAR_OPTIONS },
  { title: "Logs", options: LOG_OPTIONS },
  { title: "Vault and the fleet", options: VAULT_OPTIONS },
  { title: "Hooks and policy", options: HOOK_OPTIONS },
] as const;

/** The options table: every setting there is. */
export const OPTIONS = {
  ...SUPERVISOR_OPTIONS,
  ...DOCKER_OPTIONS,
  ...TASK_OPTIONS,
  ...SIDECAR_OPTIONS,
  ...LOG_OPTIONS,
  ...VAULT_OPTIONS,
  ...HOOK_OPTIONS,
} as const;

type Options = typeof OPTIONS;
export type OptionName = keyof Options;
/** A nested section of the file. */
export type SectionName = { [Name in OptionName]: Options[Name]["type"] extends "yaml" ? Name : never }[OptionName];
type TaskOptionName = { [Name in OptionName]: Options[Name]["scope"] extends "task" ? Name : never }[OptionName];

/** Every setting of the daemon; durations in milliseconds, sizes in bytes, texts that are not set are "". */
export type HostSettings = SettingsOf<Options>;
/** The settings of scope task, as one task has them. */
export type TaskSettings = SettingsOf<Pick<Options, TaskOptionName>>;
