export { encodeFrame } from "./codec.ts";
export * from "./messages.ts";
