/**
 * A Mesos agent for tests, demos and `berth run`: see docs/local-agent.md. The only part of this package that needs Node.
 */
export type { AgentPhase } from "./dispatcher.ts";
export { formatMesosDuration } from "./environment.ts";
export type { Delivery, StreamEnd } from "./event-stream.ts";
export { type ExecutorState, LocalExecutor, type LocalExecutorEvents, type TaskInfoInput } from "./executor.ts";
export type { ProcessEnd } from "./executor-process.ts";
export { AgentFaults, type CallType, type RestartOptions, type StolenStream } from "./faults.ts";
export { LocalAgent, type StartExecutorOptions } from "./local-agent.ts";
export type { ExecutorFailure, ObservedStatus } from "./observed.ts";
export type { LocalAgentOptions } from "./options.ts";
