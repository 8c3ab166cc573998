export { describeSettings, type SettingRow, settingsEnvironment } from "./describe.ts";
export type { Environment } from "./environment.ts";
export { flagName } from "./flags.ts";
export {
  describeMistake,
  type LoadedSettings,
  type LoadInput,
  loadSettings,
  type Mistake,
  type Origins,
  type SectionSchema,
  type SectionSchemas,
  type SectionsOf,
} from "./load.ts";
export type { EnvironmentName, OptionRecord, OptionTable } from "./option.ts";
export { type HostSettings, OPTION_GROUPS, OPTIONS, type OptionName, type SectionName, type TaskSettings } from "./options.ts";
export { exampleFile, helpText, referencePage } from "./reference.ts";
export { ShellWordsError, shellWords } from "./shell-words.ts";
export { type LoadedTaskSettings, taskSettings } from "./task.ts";
