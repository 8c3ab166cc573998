import { runWorker } from "../core/worker.ts";
import { nodeHost } from "./host.ts";

runWorker(nodeHost());
