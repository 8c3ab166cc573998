import { fields, number, text } from "./engine-read.ts";
import type { PullProgress } from "./engine-types.ts";

interface Layer {
  downloaded: number;
  total: number;
  done: boolean;
}

const DONE = new Set(["Pull complete", "Already exists"]);
const FETCHED = new Set(["Download complete", "Verifying Checksum", ...DONE]);

/** Sums dockerd's progress messages, one per layer and step, up to one figure for the image. */
export class PullMeter {
  readonly #reference: string;
  readonly #attempt: number;
  readonly #layers = new Map<string, Layer>();

  constructor(reference: string, attempt: number) {
    this.#reference = reference;
    this.#attempt = attempt;
  }

  /** `{"id": "<layer>", "status": "Downloading", "progressDetail": {"current": 1, "total": 2}}`. */
  take(message: Record<string, unknown>): void {
    const id = text(message.id);
    const status = text(message.status);
    // "Pulling from library/x" bears the tag as its id.
    if (id === "" || status.startsWith("Pulling from")) return;
    const layer = this.#layers.get(id) ?? { downloaded: 0, total: 0, done: false };
    this.#layers.set(id, layer);
    const progress = fields(message.progressDetail);
    if (status === "Downloading") {
      layer.downloaded = number(progress.current);
      layer.total = Math.max(number(progress.total), layer.total);
    }
    if (FETCHED.has(status)) layer.downloaded = layer.total;
    if (DONE.has(status)) layer.done = true;
  }

  progress(): PullProgress {
    let downloaded = 0;
    let total = 0;
    let layersDone = 0;
    for (const layer of this.#layers.values()) {
      downloaded += layer.downloaded;
      total += layer.total;
      if (layer.done) layersDone += 1;
    }
    const layers = this.#layers.size;
    const message = `pulling: ${layersDone} of ${layers} layers, ${megabytes(downloaded)} of ${megabytes(total)} MB`;
    return { reference: this.#reference, message, layers, layersDone, downloaded, total, attempt: this.#attempt };
  }
}

function megabytes(bytes: number): string {
  return (bytes / 1_000_000).toFixed(1);
}
