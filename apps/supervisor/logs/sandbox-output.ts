import type { SupervisorMessage } from "@berth/protocol";
import { pause } from "@berth/retry";
import type { WorkerPresence } from "../task/situation.ts";

/** A worker as far as it writes to its sandbox. */
export interface OutputWorker {
  readonly presence: WorkerPresence;
  /** It says when it has written something; one of an older build does not. */
  readonly tellsWritten: boolean;
  /** Bytes that were sent and that it has not read yet. */
  readonly queuedBytes: number;
  send(message: SupervisorMessage): void;
}

const LOOK_MS = 20;
/** More is not sent to a worker of an older build before it has read some: its logger may be slow. */
const MAX_QUEUED_BYTES = 1024 * 1024;

/** What one worker is given for its own stdout and stderr, where those are pipes: no faster than their reader takes it. */
export class SandboxOutput {
  readonly #worker: OutputWorker;
  readonly #waiting = new Map<number, () => void>();
  #sequence = 0;

  constructor(worker: OutputWorker) {
    this.#worker = worker;
  }

  /**
   * Gives the worker bytes as soon as it is connected. Resolves when it has written them or gave them up because nobody reads there;
   * also when it goes away or is dead: what waits behind them is the log thread's matter.
   */
  async give(stream: "stdout" | "stderr", bytes: Uint8Array): Promise<void> {
    const worker = this.#worker;
    while (worker.presence === "away" || (worker.presence === "connected" && worker.queuedBytes > MAX_QUEUED_BYTES)) await pause(LOOK_MS);
    if (worker.presence === "dead") return;
    const message = { type: "output", stream, data: Buffer.from(bytes).toString("base64") } as const;
    if (!worker.tellsWritten) return worker.send(message);
    const sequence = ++this.#sequence;
    const written = new Promise<void>((resolve) => this.#waiting.set(sequence, resolve));
    worker.send({ ...message, sequence });
    await written;
  }

  /** The worker said `written`. */
  written(sequence: number): void {
    this.#waiting.get(sequence)?.();
    this.#waiting.delete(sequence);
  }

  /** The connection to the worker ended. */
  left(): void {
    for (const resolve of this.#waiting.values()) resolve();
    this.#waiting.clear();
  }
}
