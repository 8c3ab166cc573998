export { encodeFrame } from "./codec.ts";
export * from "./messages.ts";
export { parseSupervisorMessage } from "./supervisor-message.ts";
