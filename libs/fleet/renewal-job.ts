import { type ConnectionOptions, Queue, Worker } from "bullmq";
import { Redis } from "ioredis";
import { type FleetLog, redisOptions } from "./connection.ts";
import { withDeadline } from "./deadline.ts";
import type { FleetSettings } from "./settings.ts";

export interface RenewalJobOptions {
  settings: FleetSettings;
  log: FleetLog;
  /** Also the queue's name: holds no colon. */
  purpose: string;
  /** Called on one host of the fleet per tick. */
  work: () => Promise<void>;
}

const SCHEDULER = "renewal";
const SCHEDULE_MS = 2_000;
const CLOSE_MS = 1_000;

/**
 * A BullMQ job scheduler that every host takes part in: at each tick one of them does the work. The jobs carry nothing, because
 * job data is clear text in Redis. A tick that is lost or comes twice does no harm: the work looks first whether it is due.
 */
export class RenewalJob {
  readonly #queue: Queue;
  readonly #worker: Worker;
  readonly #connections: Redis[];
  readonly #log: FleetLog;

  constructor({ settings, log, purpose, work }: RenewalJobOptions) {
    this.#log = log;
    this.#connections = [0, 1].map(() => new Redis({ ...redisOptions(settings), maxRetriesPerRequest: null }));
    const [forQueue, forWorker] = this.#connections as [Redis, Redis];
    for (const connection of this.#connections) connection.on("error", () => {});
    const prefix = `berth:{${settings.name}}`;
    this.#queue = new Queue(purpose, { connection: forQueue as ConnectionOptions, prefix });
    this.#worker = new Worker(purpose, work, { connection: forWorker as ConnectionOptions, prefix, concurrency: 1, maxStalledCount: 1 });
    this.#queue.on("error", () => {});
    this.#worker.on("error", (error) => log.debug({ problem: error.message }, "the fleet's renewal job has trouble with Redis"));
    this.#worker.on("failed", (_job, error) => log.warn({ problem: error.message }, "the fleet's renewal job failed; another tick comes"));
  }

  /** Sets the tick unless the fleet has it already (a wiped Redis has not). */
  async ensure(everyMs: number): Promise<void> {
    const ensured = (async () => {
      const existing = await this.#queue.getJobScheduler(SCHEDULER);
      if (existing?.every === everyMs) return;
      const options = { removeOnComplete: true, removeOnFail: true };
      await this.#queue.upsertJobScheduler(SCHEDULER, { every: everyMs }, { name: "renew", data: {}, opts: options });
    })();
    await withDeadline(ensured, SCHEDULE_MS, "the renewal job cannot be scheduled").catch((error: Error) => {
      this.#log.debug({ problem: error.message }, "the fleet's renewal job could not be scheduled");
    });
  }

  async close(): Promise<void> {
    // With Redis away BullMQ's orderly close never ends.
    const reachable = this.#connections.every(({ status }) => status === "ready");
    const closed = Promise.allSettled([this.#worker.close(true), this.#queue.close()]);
    await withDeadline(closed, reachable ? CLOSE_MS : 0, "Redis is away").catch(() => {});
    for (const connection of this.#connections) connection.disconnect();
  }
}
