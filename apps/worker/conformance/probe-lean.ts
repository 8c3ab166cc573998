import { leanHost } from "../host-lean/host.ts";
import type { Native } from "../host-lean/native.ts";
import { runProbe } from "./probe.ts";

declare const native: Native;

const { host, loop } = leanHost(native);
runProbe(host);

export { loop };
