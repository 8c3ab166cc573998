import type { LogstashSink, ThreadLogLine } from "./types.ts";

const TIMEOUT_MS = 10_000;

/** The addresses of a Consul service, asked for again and again; an empty or failed answer keeps the last ones. */
export class ConsulAddresses {
  readonly #options: NonNullable<LogstashSink["discovery"]>;
  readonly #log: (line: ThreadLogLine) => void;
  readonly #timer: NodeJS.Timeout;
  #failing = false;
  addresses: readonly string[] = [];

  constructor(options: NonNullable<LogstashSink["discovery"]>, log: (line: ThreadLogLine) => void) {
    this.#options = options;
    this.#log = log;
    void this.#refresh();
    this.#timer = setInterval(() => void this.#refresh(), Math.max(1_000, options.refreshMs)).unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #refresh(): Promise<void> {
    const { consulUrl, service, token } = this.#options;
    try {
      const url = new URL(`/v1/health/service/${encodeURIComponent(service)}?passing=1&stale=`, consulUrl);
      const headers: Record<string, string> = token === undefined ? {} : { "X-Consul-Token": token };
      const response = await fetch(url, { headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
      if (!response.ok) throw new Error(`Consul answered ${response.status}`);
      const found = addressesOf(await response.json());
      this.#failing = false;
      if (found.length > 0) this.addresses = found;
    } catch (error) {
      if (this.#failing) return;
      this.#failing = true;
      this.#log({
        level: "warn",
        fields: { service, problem: (error as Error).message },
        message: "the log receivers cannot be asked of Consul",
      });
    }
  }
}

function addressesOf(entries: unknown): string[] {
  if (!Array.isArray(entries)) throw new Error("Consul's answer is no list");
  const addresses = entries.flatMap((entry: { Service?: { Address?: string; Port?: number }; Node?: { Address?: string } }) => {
    // A service without an address of its own is reached at its node's.
    const host = entry.Service?.Address || entry.Node?.Address;
    const port = entry.Service?.Port;
    return host && port ? [host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`] : [];
  });
  return addresses.sort();
}
