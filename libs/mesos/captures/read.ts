import { readFileSync } from "node:fs";

/**
 * Facts recorded from a real Mesos 1.12 master and agent, one JSON value per line. `<framework>`, `<agent>`, `<container>`,
 * `<sandbox>`, `<endpoint>` and `<token>` stand for what differs in every run.
 */
export function readCaptures<T>(name: "probes" | "events" | "environments" | "updates", replace: Record<string, string> = {}): T[] {
  let text = readFileSync(new URL(`./${name}.jsonl`, import.meta.url), "utf8");
  for (const [from, to] of Object.entries(replace)) text = text.replaceAll(from, to);
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as T);
}

/** A request to the executor endpoint and the agent's answer. */
export interface CapturedProbe {
  capture: string;
  name: string;
  method: string;
  path: string;
  headers: Record<string, string>;
  body: string;
  chunked?: boolean;
  answer: { status: number; headers: Record<string, string>; body: string };
}

/** An event of the stream; the generation counts the SUBSCRIBEs. */
export interface CapturedEvent {
  capture: string;
  generation: number;
  event: { type: string; [field: string]: unknown };
}
