export { LogLane, type LogLaneEvents, type LogLaneLog, type LogLaneOptions } from "./log-lane.ts";
export { endOfSandboxFile } from "./text-file.ts";
export type * from "./types.ts";
