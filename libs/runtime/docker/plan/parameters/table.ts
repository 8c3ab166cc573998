import { TaskFailure } from "@berth/mesos";
import type { Parameter } from "@berth/mesos/task-info";
import type { Draft } from "../draft.ts";
import { invalidField } from "../invalid.ts";
import { ValueError } from "./grammar.ts";
import { HEALTH_PARAMETERS } from "./health.ts";
import { LIMIT_PARAMETERS } from "./limits.ts";
import { NETWORK_PARAMETERS } from "./network.ts";
import type { DockerParameter } from "./parameter.ts";
import { PROCESS_PARAMETERS } from "./process.ts";
import { REFUSED_PARAMETERS } from "./refused.ts";
import { SECURITY_PARAMETERS } from "./security.ts";
import { STORAGE_PARAMETERS } from "./storage.ts";

/** All parameters by subject, in the order of the reference. */
export const PARAMETER_GROUPS: ReadonlyArray<{ title: string; parameters: readonly DockerParameter[] }> = [
  { title: "Process", parameters: PROCESS_PARAMETERS },
  { title: "Limits", parameters: LIMIT_PARAMETERS },
  { title: "Network", parameters: NETWORK_PARAMETERS },
  { title: "Storage and logs", parameters: STORAGE_PARAMETERS },
  { title: "Privileges, devices and namespaces", parameters: SECURITY_PARAMETERS },
  { title: "The engine's health check", parameters: HEALTH_PARAMETERS },
];

const BY_NAME: ReadonlyMap<string, DockerParameter> = new Map(
  PARAMETER_GROUPS.flatMap(({ parameters }) => parameters).flatMap((parameter) =>
    [parameter.key, ...(parameter.aliases ?? [])].map((name) => [name, parameter] as const),
  ),
);

/**
 * Applies `container.docker.parameters` in order. Throws a {@link TaskFailure}: TASK_FAILED for a name that is unknown or
 * refused, TASK_ERROR for a value that its parameter does not take. No value is repeated in a message: it may be a secret.
 */
export function applyParameters(draft: Draft, parameters: readonly Parameter[]): void {
  for (const [index, { key, value }] of parameters.entries()) {
    const parameter = BY_NAME.get(key);
    if (parameter === undefined) throw notTaken(index, key);
    try {
      parameter.apply(draft, value);
    } catch (error) {
      if (!(error instanceof ValueError)) throw error;
      throw invalidField(`container.docker.parameters.${index} (${key})`, `the value ${error.message}; accepted: ${parameter.accepts}`);
    }
  }
}

function notTaken(index: number, key: string): TaskFailure {
  const field = `container.docker.parameters.${index}`;
  const refused = REFUSED_PARAMETERS.get(key);
  if (refused !== undefined) return new TaskFailure(`${field}: the docker parameter '${key}' is refused: ${refused}`);
  const shown = key.slice(0, 60);
  return new TaskFailure(
    `${field}: unknown docker parameter '${shown}': did you mean '${nearestName(shown)}'? See docs/reference/docker-parameters.md`,
  );
}

/** The known parameter with the smallest edit distance; leading dashes and capitals do not count. */
export function nearestName(written: string): string {
  const wanted = written.replace(/^-+/, "").toLowerCase();
  let nearest = "";
  let smallest = Number.POSITIVE_INFINITY;
  for (const name of BY_NAME.keys()) {
    const distance = editDistance(wanted, name);
    if (distance < smallest) [nearest, smallest] = [name, distance];
  }
  return nearest;
}

function editDistance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let i = 1; i <= one.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= other.length; j += 1) {
      const replaced = (row[j - 1] as number) + (one[i - 1] === other[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[other.length] as number;
}
