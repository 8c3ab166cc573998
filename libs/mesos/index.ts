export { agentSpeaksTls, checksAgentCertificate } from "./agent-tls.ts";
export type { Call, CheckStatus, ContainerStatus, Event, Id, OpaqueTaskInfo, StatusUpdate, SubscribedEvent } from "./executor-api.ts";
export { TaskFailure, type TaskFailureFields, type TaskStatusReason } from "./task-failure.ts";
export { isTerminal, type TaskState, TERMINAL_STATES, type TerminalState } from "./task-state.ts";
