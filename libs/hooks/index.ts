export { builtInHooks, type HookDependencies } from "./built-in.ts";
export { BUILT_IN_NAMES, type BuiltInName, HookList, HooksConfig } from "./config.ts";
export { type ConvertedConfig, fromGoMesosConfig } from "./go-mesos-config.ts";
export * from "./lifecycle.ts";
export type { PolicyFiles } from "./policy/binds.ts";
export { enforcePolicy, judgePlan } from "./policy/judge.ts";
export { Policy, type Refusal } from "./policy/policy.ts";
export { HookRunner, type StageRequest, type StageResult } from "./runner.ts";
export { type LoadedHooks, loadUserHooks } from "./user/load.ts";
