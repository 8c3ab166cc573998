import type { Draft } from "../draft.ts";

/** One key of `container.docker.parameters`: a flag of `docker run` that Berth maps itself. */
export interface DockerParameter {
  readonly key: string;
  /** Other names that the docker client knows for it. */
  readonly aliases?: readonly string[];
  /** What a value looks like, for the reference and for error messages. */
  readonly accepts: string;
  /** What it does, a sentence without its full stop. */
  readonly description: string;
  /** Whether each further one adds to the ones before; otherwise the last one wins. */
  readonly repeats?: boolean;
  /** Puts a value into the draft. Throws a `ValueError`. */
  apply(draft: Draft, value: string): void;
}
