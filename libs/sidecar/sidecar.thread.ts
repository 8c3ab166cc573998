import { serveLane } from "@berth/lane";
import { SidecarReader } from "./reader.ts";
import type { SidecarSettings } from "./types.ts";

/** The Sidecar thread: one reader of the state for the whole host. */
export default serveLane<SidecarSettings>((settings, lane) => {
  const reader = new SidecarReader(settings, {
    verdict: (verdict) => lane.emit("verdict", verdict),
    log: (line) => lane.emit("log", line),
  });
  lane.onClose(() => reader.close());
  return {
    watch: (task) => reader.watch(task),
    unwatch: ({ taskKey }) => reader.unwatch(taskKey),
    requestDrain: (request, signal) => reader.requestDrain(request, signal),
    seeds: (request) => reader.seeds(request),
    status: () => reader.status(),
  };
});
