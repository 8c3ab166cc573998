import type { EnvironmentName, OptionRecord, OptionTable } from "./option.ts";
import { suggest } from "./suggest.ts";
import { type Parsed, parseText } from "./value.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

const PREFIXED = /^(ALLEGRO_)?EXECUTOR_/;

/** What the environment says about one setting. */
export interface EnvironmentFinding {
  name: EnvironmentName;
  text: string;
  parsed: Parsed;
}

export interface EnvironmentLookup {
  /** The variable that counts. `parsed` may be a mistake; then its name is one of our own. */
  found?: EnvironmentFinding;
  warnings: string[];
}

/**
 * Looks a setting's names up in their order; the first that is set counts. One that is set but empty counts as not set, with a
 * warning (units and scripts often write NAME= for that). A bare one that does not fit is passed over, because it may be another
 * program's: DEBUG=express:* must not stop a daemon.
 */
export function lookUp(setting: string, option: OptionRecord, environment: Environment): EnvironmentLookup {
  const warnings: string[] = [];
  for (const name of option.environment) {
    const text = environment[name.name];
    if (text === undefined) continue;
    if (text === "" && option.emptyCounts === undefined) {
      warnings.push(`${name.name} in the environment is empty, which counts as not set`);
      continue;
    }
    const parsed = parseText(option, text);
    if (name.kind === "bare" && !parsed.ok) {
      warnings.push(`${name.name} in the environment is ignored: as ${setting} it would have to be ${parsed.expected}`);
      continue;
    }
    if (name.deprecated) warnings.push(`${name.name} is deprecated: use ${option.environment.find((other) => !other.deprecated)?.name}`);
    return { found: { name, text, parsed }, warnings };
  }
  return { warnings };
}

/** Whether a name is surely meant for an executor, and not for the application that may share the environment. */
export function isPrefixed(name: string): boolean {
  return PREFIXED.test(name);
}

/** Warns of variables that look like settings and are none; `place` is where they stand: "the environment". */
export function unknownVariables(table: OptionTable, environment: Environment, place: string): string[] {
  const known = new Set(Object.values(table).flatMap((option) => option.environment.map(({ name }) => name)));
  return Object.keys(environment)
    .filter((name) => isPrefixed(name) && !known.has(name) && !name.startsWith("ALLEGRO_EXECUTOR_MESOSCONFIG_"))
    .sort()
    .map((name) => {
      const meant = suggest(name, known);
      return `${name} in ${place} is no setting${meant === undefined ? "" : `; did you mean ${meant}?`}`;
    });
}
