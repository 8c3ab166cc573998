import { runWorker } from "../core/worker.ts";
import { runOnLeanHost } from "./run.ts";

runOnLeanHost(runWorker);
