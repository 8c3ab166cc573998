export { LogLane, type LogLaneEvents, type LogLaneLog, type LogLaneOptions } from "./log-lane.ts";
export type * from "./types.ts";
