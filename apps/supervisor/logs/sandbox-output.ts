import type { SupervisorMessage } from "@berth/protocol";
import { pause } from "@berth/retry";
import type { WorkerPresence } from "../task/situation.ts";

/** A worker as far as it writes to its sandbox. */
export interface OutputWorker {
  readonly presence: WorkerPresence;
  /** Bytes that were sent and that it has not read yet. */
  readonly queuedBytes: number;
  send(message: SupervisorMessage): void;
}

const LOOK_MS = 20;
/** More is not sent to a worker before it has read some: its logger may be slow. */
const MAX_QUEUED_BYTES = 1024 * 1024;

/**
 * Gives a worker bytes for its sandbox as soon as it is connected and reads. Resolves when they are on their way, or when the worker
 * is dead: what waits behind them is the log thread's matter.
 */
export async function giveOutput(worker: OutputWorker, output: Extract<SupervisorMessage, { type: "output" }>): Promise<void> {
  while (worker.presence === "away" || (worker.presence === "connected" && worker.queuedBytes > MAX_QUEUED_BYTES)) await pause(LOOK_MS);
  worker.send(output);
}
