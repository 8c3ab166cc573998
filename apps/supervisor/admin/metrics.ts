import { monitorEventLoopDelay } from "node:perf_hooks";

/** One sample: a value with its labels. Labels are of low cardinality: never a task's id. */
export interface Sample {
  labels?: Record<string, string>;
  value: number;
}

export interface Metric {
  /** Prometheus name: base units, `_total` for what only grows. */
  name: string;
  help: string;
  type: "gauge" | "counter";
  samples: Sample[];
}

/** The Prometheus text exposition format, version 0.0.4. */
export function exposition(metrics: readonly Metric[]): string {
  const lines: string[] = [];
  for (const { name, help, type, samples } of metrics) {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const { labels = {}, value } of samples) lines.push(`${name}${labelText(labels)} ${Number.isFinite(value) ? value : "NaN"}`);
  }
  return `${lines.join("\n")}\n`;
}

function labelText(labels: Record<string, string>): string {
  const pairs = Object.entries(labels).map(
    ([key, value]) => `${key}="${value.replace(/[\\"\n]/g, (character) => (character === "\n" ? "\\n" : `\\${character}`))}"`,
  );
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

/** Counts by a set of labels; only grows. */
export class Counter {
  readonly #counts = new Map<string, Sample>();

  add(labels: Record<string, string>): void {
    const key = JSON.stringify(labels);
    const sample = this.#counts.get(key);
    if (sample === undefined) this.#counts.set(key, { labels, value: 1 });
    else sample.value += 1;
  }

  get samples(): Sample[] {
    return [...this.#counts.values()];
  }
}

/** How late the event loop runs what is due, over the time since the last look: the daemon's own pulse. */
export class LoopLag {
  readonly #histogram = monitorEventLoopDelay({ resolution: 20 });

  constructor() {
    this.#histogram.enable();
  }

  /** Largest lag since the last call, seconds. */
  take(): number {
    const seconds = this.#histogram.max / 1e9;
    this.#histogram.reset();
    return seconds;
  }

  stop(): void {
    this.#histogram.disable();
  }
}
