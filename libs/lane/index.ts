export { Lane, LaneLostError, type LaneEvents, type LaneLog, type LaneOptions } from "./lane.ts";
export { type LaneHandlers, type LaneStart, serveLane } from "./serve.ts";
