export type { Address, Exit, Observed, PlanInput, TaskIdentity } from "./runtime.ts";
