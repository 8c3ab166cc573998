export { type BuiltInName, BUILT_IN_NAMES, HookList, HooksConfig } from "./config.ts";
export { builtInHooks, type HookDependencies } from "./built-in.ts";
export * from "./lifecycle.ts";
export { judgePlan, Policy, type PolicyFiles, type Refusal } from "./policy/policy.ts";
export { HookRunner, type StageRequest, type StageResult } from "./runner.ts";
export { type LoadedHooks, loadUserHooks } from "./user/load.ts";
