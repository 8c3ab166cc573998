import { Redis } from "ioredis";
import { withDeadline } from "./deadline.ts";
import type { FleetSettings } from "./settings.ts";

/** Redis gave no usable answer in time. Whoever meets this goes on alone. */
export class FleetAwayError extends Error {
  override readonly name = "FleetAwayError";
}

export interface FleetLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** Of a single command, connecting included. Nothing that a task waits for may take longer because of Redis. */
const COMMAND_TIMEOUT_MS = 2_000;
/** After a failure Redis is not asked again for this long, so that a slow one costs one deadline and not one per launch. */
const REST_MS = 5_000;

/**
 * The connection for commands: fails fast, never queues a command for later, reconnects by itself with backoff.
 */
export class FleetConnection {
  readonly redis: Redis;
  readonly #log: FleetLog;
  #restUntil = 0;
  #problem: string | undefined;

  constructor(settings: FleetSettings, log: FleetLog, onReady: () => void) {
    this.#log = log;
    this.redis = new Redis({
      ...redisOptions(settings),
      commandTimeout: COMMAND_TIMEOUT_MS,
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
    });
    this.redis.on("error", (error: Error) => this.#fail(error));
    this.redis.on("ready", () => {
      this.#restUntil = 0;
      onReady();
    });
  }

  /** Why Redis is not used right now; undefined while it answers. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Runs commands; every failure becomes a {@link FleetAwayError}. */
  async run<T>(commands: (redis: Redis) => Promise<T>): Promise<T> {
    if (Date.now() < this.#restUntil) throw new FleetAwayError(this.#problem ?? "Redis is away");
    try {
      await withDeadline(this.#ready(), COMMAND_TIMEOUT_MS, "Redis cannot be reached");
      const result = await withDeadline(commands(this.redis), 2 * COMMAND_TIMEOUT_MS, "Redis gives no answer");
      if (this.#problem !== undefined) this.#log.info({}, "the fleet's Redis answers again");
      this.#problem = undefined;
      return result;
    } catch (error) {
      this.#restUntil = Date.now() + REST_MS;
      // A peer that vanished without a word leaves a connection that looks fine: the next attempt gets a new one.
      if (this.redis.status === "ready") this.redis.disconnect(true);
      throw new FleetAwayError(this.#fail(error as Error), { cause: error });
    }
  }

  close(): void {
    this.redis.disconnect();
  }

  async #ready(): Promise<void> {
    const { redis } = this;
    if (redis.status === "ready") return;
    // Between two attempts it is known to be away; the next "ready" ends that.
    if (redis.status === "reconnecting" || redis.status === "end") throw new Error(this.#problem ?? "Redis is not connected");
    await new Promise<void>((resolve, reject) => {
      const settle = (error?: Error): void => {
        redis.off("ready", onReady);
        redis.off("close", onClose);
        if (error === undefined) resolve();
        else reject(error);
      };
      const onReady = (): void => settle();
      const onClose = (): void => settle(new Error(this.#problem ?? "Redis closed the connection"));
      redis.once("ready", onReady);
      redis.once("close", onClose);
    });
  }

  #fail(error: Error): string {
    const problem = (error as NodeJS.ErrnoException).code ?? error.message;
    if (this.#problem === undefined) this.#log.warn({ problem }, "the fleet's Redis is away; this host goes on alone");
    this.#problem = problem;
    return problem;
  }
}

/** What we set of ioredis's options. */
export interface RedisAddress {
  host?: string;
  port?: number;
  path?: string;
  db?: number;
  username?: string;
  password?: string;
  tls?: Record<string, never>;
}

export interface SharedRedisOptions extends RedisAddress {
  connectionName: string;
  connectTimeout: number;
  keepAlive: number;
  retryStrategy: (times: number) => number;
}

/** The options that all our connections to Redis share. */
export function redisOptions(settings: FleetSettings): SharedRedisOptions {
  return {
    ...addressOptions(settings.redisUrl),
    connectionName: `berth ${settings.host}`.replace(/[^\x21-\x7e]/g, "_"),
    connectTimeout: 5_000,
    keepAlive: 10_000,
    retryStrategy: (times) => Math.min(100 * 2 ** Math.min(times, 10), 10_000) * (0.5 + Math.random() / 2),
  };
}

function addressOptions(text: string): RedisAddress {
  const url = new URL(text);
  const login = {
    ...(url.username === "" ? {} : { username: decodeURIComponent(url.username) }),
    ...(url.password === "" ? {} : { password: decodeURIComponent(url.password) }),
  };
  if (url.protocol === "unix:") return { ...login, path: decodeURIComponent(url.pathname) };
  const database = Number(url.pathname.slice(1) || 0);
  return {
    ...login,
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: Number(url.port || 6379),
    db: Number.isInteger(database) ? database : 0,
    ...(url.protocol === "rediss:" ? { tls: {} } : {}),
  };
}
