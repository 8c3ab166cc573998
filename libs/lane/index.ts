export { Lane, type LaneEvents, type LaneLog, LaneLostError, type LaneOptions } from "./lane.ts";
export { type LaneHandlers, type LaneStart, serveLane } from "./serve.ts";
