import { type BackoffPolicy, backoffDelay, pause } from "@berth/retry";
import { hasKind, isOutage, VaultError } from "./errors.ts";
import type { VaultLog, VaultStatus } from "./types.ts";
import type { Health } from "./vault-api.ts";

export interface AvailabilityOptions {
  probe: (signal: AbortSignal) => Promise<Health>;
  log: VaultLog;
  /** Ends every probe and every wait. */
  signal: AbortSignal;
  random?: () => number;
}

export interface Attempt {
  signal: AbortSignal;
  /** Extra attempts where Vault is healthy and only this request fails. */
  maxRetries: number;
  /** Called when the wait begins and whenever its reason changes. */
  onWaiting?: (reason: string) => void;
}

const PROBES: BackoffPolicy = { attempts: Number.POSITIVE_INFINITY, firstDelayMs: 500, maxDelayMs: 15_000 };
const SINGLE_REQUEST: BackoffPolicy = { attempts: Number.POSITIVE_INFINITY, firstDelayMs: 300, maxDelayMs: 10_000 };

type State = { kind: "open" } | { kind: "closed"; state: "sealed" | "unreachable" | "failing"; problem: string };

/**
 * Whether Vault can be asked at all, for the whole host. After a failure that looks like an outage one probe finds out, and
 * while Vault is away one probe per backoff step is all the traffic there is: launches wait here instead of retrying each.
 *
 * INVARIANTS: at most one probe is under way; a closed gate opens by a healthy probe (or, after a 429, by time) and nothing
 * else; whoever waits is let go by its own signal at once.
 */
export class Availability {
  readonly #options: AvailabilityOptions;
  #state: State = { kind: "open" };
  #closed: Promise<void> | undefined;
  #verdict: Promise<void> = Promise.resolve();
  #holds = 0;

  constructor(options: AvailabilityOptions) {
    this.#options = options;
  }

  get state(): VaultStatus["state"] {
    return this.#state.kind === "open" ? "open" : this.#state.state;
  }

  get problem(): string | undefined {
    return this.#state.kind === "open" ? undefined : this.#state.problem;
  }

  /** Runs `call` while Vault is there, again after an outage. Throws the last error when the signal aborts in between. */
  async perform<T>(call: () => Promise<T>, { signal, maxRetries, onWaiting }: Attempt): Promise<T> {
    let last: VaultError | undefined;
    let failures = 0;
    for (;;) {
      try {
        signal.throwIfAborted();
        await this.untilOpen(signal, onWaiting);
        const result = await withSignal(call(), signal);
        this.#holds = 0;
        return result;
      } catch (error) {
        if (signal.aborted) throw last ?? this.#asError() ?? signal.reason;
        if (!isOutage(error)) throw error;
        last = error;
        await withSignal(this.#examine(error), signal).catch(() => {});
        if (this.#state.kind === "closed") continue;
        failures += 1;
        if (failures > maxRetries) throw error;
        onWaiting?.(error.message);
        await pause(backoffDelay(SINGLE_REQUEST, failures, this.#options.random), signal).catch(() => {});
      }
    }
  }

  /** Settles when Vault can be asked, for as far as is known. */
  async untilOpen(signal: AbortSignal, onWaiting?: (reason: string) => void): Promise<void> {
    while (this.#closed !== undefined) {
      if (this.#state.kind === "closed") onWaiting?.(this.#state.problem);
      await withSignal(this.#closed, signal);
    }
  }

  #asError(): VaultError | undefined {
    if (this.#state.kind === "open") return undefined;
    return new VaultError(this.#state.state === "failing" ? "server" : this.#state.state, this.#state.problem);
  }

  /** Settles once it is known whether the outage is Vault's or only this request's. */
  async #examine(error: VaultError): Promise<void> {
    if (this.#closed !== undefined) return this.#verdict;
    if (hasKind(error, "rateLimited")) {
      this.#hold(error);
      return;
    }
    const known = Promise.withResolvers<void>();
    this.#closed = this.#probeUntilHealthy(known.resolve).finally(() => {
      this.#closed = undefined;
      this.#state = { kind: "open" };
    });
    this.#verdict = known.promise;
    await known.promise;
  }

  #hold(error: VaultError): void {
    this.#holds += 1;
    const delayMs = error.retryAfterMs ?? backoffDelay(PROBES, this.#holds, this.#options.random);
    this.#state = { kind: "closed", state: "failing", problem: error.message };
    this.#closed = pause(delayMs, this.#options.signal)
      .catch(() => {})
      .finally(() => {
        this.#closed = undefined;
        this.#state = { kind: "open" };
      });
  }

  async #probeUntilHealthy(known: () => void): Promise<void> {
    const { probe, log, signal, random } = this.#options;
    for (let step = 1; !signal.aborted; step++) {
      const health = await probe(signal);
      if (health.ok) {
        if (step > 1) log.info({ probes: step }, "Vault is back");
        // The gate must be seen open by whoever waits for the verdict.
        queueMicrotask(known);
        return;
      }
      if (this.problem !== health.problem) log.warn({ problem: health.problem }, "Vault is away: launches that need it wait");
      this.#state = { kind: "closed", state: health.state, problem: health.problem };
      known();
      await pause(backoffDelay(PROBES, step, random), signal).catch(() => {});
    }
    known();
  }
}

/** `promise`, or the signal's reason as soon as it aborts. The promise goes on; its failure is then nobody's. */
export async function withSignal<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  promise.catch(() => {});
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
