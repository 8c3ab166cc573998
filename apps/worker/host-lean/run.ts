import type { Host } from "../core/host.ts";
import { leanHost } from "./host.ts";
import type { HostCallbacks, Natives } from "./natives.ts";

/** Starts a program on the engine that this runs in. */
export function runOnLeanHost(start: (host: Host) => void): void {
  const engine = globalThis as unknown as { natives: Natives; hostCallbacks: HostCallbacks };
  const { host, callbacks } = leanHost(engine.natives);
  engine.hostCallbacks = callbacks;
  start(host);
}
