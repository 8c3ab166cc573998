import { serveLane } from "@berth/lane";
import { Probe } from "./probe.ts";
import type { ProbeMethods, ProbeStart } from "./prober.ts";

/** The health thread: starting a process blocks the thread that does it for a millisecond or two, a hundred times a second. */
export default serveLane<ProbeStart>(({ procPath }) => {
  const probe = new Probe({ procPath });
  return { probe: ({ check, observed }, signal) => probe.run(check, observed, signal) } satisfies ProbeMethods;
});
