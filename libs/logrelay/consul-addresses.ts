import type { AddressList } from "./receiver-ring.ts";
import { splitAddress } from "./transport.ts";
import type { LogstashSink, ThreadLogLine } from "./types.ts";

const TIMEOUT_MS = 10_000;

/**
 * The addresses of a Consul service, asked for again for as long as somebody uses them; an empty or failed answer keeps the last
 * ones. Nobody asks Consul on behalf of tasks that write nothing.
 */
export class ConsulAddresses implements AddressList {
  readonly #options: NonNullable<LogstashSink["discovery"]>;
  /** May hold a password. */
  readonly #url: URL;
  readonly #log: (line: ThreadLogLine) => void;
  readonly #changed: () => void;
  #found: readonly string[] = [];
  #askedAt = Number.NEGATIVE_INFINITY;
  #asking = false;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;
  #failing = false;
  problem: string | undefined;

  /** `changed` is called after each answer. */
  constructor(options: NonNullable<LogstashSink["discovery"]>, log: (line: ThreadLogLine) => void, changed: () => void) {
    this.#options = options;
    this.#url = new URL(options.consulUrl);
    this.#log = log;
    this.#changed = changed;
  }

  addresses(): readonly string[] {
    if (!this.#asking && this.#timer === undefined && !this.#closed) {
      const due = this.#askedAt + Math.max(100, this.#options.refreshMs) - performance.now();
      if (due <= 0) void this.#ask();
      else this.#timer = setTimeout(() => void this.#ask(), due).unref();
    }
    return this.#found;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #ask(): Promise<void> {
    this.#timer = undefined;
    this.#asking = true;
    this.#askedAt = performance.now();
    const { service } = this.#options;
    try {
      const found = await this.#fetch();
      this.#failing = false;
      this.problem = found.length === 0 ? `Consul knows no healthy instance of ${service}` : undefined;
      // The same list stays the same object: nothing is compared where nothing changed.
      if (found.length > 0 && found.join() !== this.#found.join()) this.#found = found;
    } catch (error) {
      const { message, cause } = error as Error & { cause?: Error };
      this.problem = `Consul at ${this.#url.origin} cannot be asked for ${service}: ${cause?.message || message}`;
      if (!this.#failing)
        this.#log({ level: "warn", fields: { service, problem: this.problem }, message: "the log receivers cannot be found" });
      this.#failing = true;
    }
    this.#asking = false;
    if (!this.#closed) this.#changed();
  }

  async #fetch(): Promise<string[]> {
    const { service, token } = this.#options;
    const url = new URL(`/v1/health/service/${encodeURIComponent(service)}?passing=1&stale=`, this.#url.origin);
    const headers: Record<string, string> = token === undefined ? {} : { "X-Consul-Token": token };
    const user = [this.#url.username, this.#url.password].map(decodeURIComponent).join(":");
    if (user !== ":") headers.authorization = `Basic ${Buffer.from(user).toString("base64")}`;
    const response = await fetch(url, { headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!response.ok) throw new Error(`it answered ${response.status}`);
    return addressesOf(await response.json());
  }
}

/** Consul takes any number for a port. */
function isAddress(text: string): boolean {
  try {
    return splitAddress(text).port > 0;
  } catch {
    return false;
  }
}

function addressesOf(entries: unknown): string[] {
  if (!Array.isArray(entries)) throw new Error("its answer is no list");
  const addresses = entries.flatMap((entry: { Service?: { Address?: string; Port?: number }; Node?: { Address?: string } }) => {
    // A service without an address of its own is reached at its node's.
    const host = entry.Service?.Address || entry.Node?.Address;
    const port = entry.Service?.Port;
    const address = `${host?.includes(":") ? `[${host}]` : host}:${port}`;
    return host && isAddress(address) ? [address] : [];
  });
  return addresses.sort();
}
