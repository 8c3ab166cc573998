import { nodeHost } from "../host-node/host.ts";
import { runProbe } from "./probe.ts";

runProbe(nodeHost());
