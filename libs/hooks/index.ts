export * from "./lifecycle.ts";
export { HookRunner, type StageRequest, type StageResult } from "./runner.ts";
