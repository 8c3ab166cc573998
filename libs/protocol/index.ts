export { encodeFrame } from "./codec.ts";
export * from "./messages.ts";
export { parseSupervisorMessage } from "./supervisor-message.ts";
export { type CgroupOwner, cgroupOwner, namespaceNumber, taskCgroupName } from "./task-cgroup.ts";
