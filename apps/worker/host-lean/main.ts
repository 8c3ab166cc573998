import { runWorker } from "../core/worker.ts";
import { leanHost } from "./host.ts";
import type { Native } from "./native.ts";

declare const native: Native;

const { host, loop } = leanHost(native);
runWorker(host);

export { loop };
