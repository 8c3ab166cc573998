export { SidecarLane, type SidecarLaneEvents, type SidecarLaneOptions, type SidecarLog } from "./sidecar-lane.ts";
export * from "./types.ts";
