import type { Environment } from "./environment.ts";
import type { OptionTable } from "./option.ts";
import { OPTIONS } from "./options.ts";
import { withoutUser } from "./url-user.ts";
import { formatValue } from "./value.ts";

export interface SettingRow {
  name: string;
  /** As text; "(unset)" for a text that is empty; a secret shows only where it came from. */
  value: string;
  origin: string;
}

/** The settings, of the host or of one task, as rows to print. Which one is secret is in the table, not guessed from its name. */
export function describeSettings(settings: Readonly<Record<string, unknown>>, origins: Readonly<Record<string, string>>): SettingRow[] {
  return Object.entries(OPTIONS as OptionTable).flatMap(([name, option]) => {
    if (!Object.hasOwn(settings, name)) return [];
    const origin = origins[name] ?? "default";
    const text = settings[name] === null ? "" : formatValue(option, settings[name]);
    if (text === "") return [{ name, value: "(unset)", origin }];
    return [{ name, value: option.secret ? `(secret, from ${origin.replace(/ in the environment$/, "")})` : withoutUser(text), origin }];
  });
}

/**
 * The environment for libraries that read their variables themselves (DOCKER_*, VAULT_*, REDIS_URL, CONSUL_*): the daemon's own
 * without any name of a setting, and every setting that is not a default put in under its first name. So flags and the file count
 * there too, and what was passed over here (an empty variable, a bare one that does not fit) does not count there either.
 */
export function settingsEnvironment(
  environment: Environment,
  settings: Readonly<Record<string, unknown>>,
  origins: Readonly<Record<string, string>>,
): Record<string, string | undefined> {
  const result: Record<string, string | undefined> = { ...environment };
  for (const option of Object.values(OPTIONS as OptionTable)) {
    for (const { name } of option.environment) delete result[name];
  }
  for (const [name, option] of Object.entries(OPTIONS as OptionTable)) {
    const [first] = option.environment;
    if (first === undefined || option.type === "yaml" || (origins[name] ?? "default") === "default") continue;
    result[first.name] = formatValue(option, settings[name]);
  }
  return result;
}
