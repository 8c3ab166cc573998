import type { OptionTable } from "./option.ts";
import { suggest } from "./suggest.ts";

export interface Flags {
  /** By setting; the flag as it was written ("--kill-task-timeout") and its text. */
  values: Map<string, { flag: string; text: string }>;
  help: boolean;
  version: boolean;
  mistakes: { setting: string; where: string; problem: string }[];
}

/** killTaskTimeout → kill-task-timeout */
export function flagName(setting: string): string {
  return setting.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/**
 * Reads `--setting value`, `--setting=value`, `--boolean` and `--no-boolean`. `-debug` is taken for `--debug`, as allegro's
 * executor had it. The last one of a name counts.
 */
export function parseFlags(table: OptionTable, argv: readonly string[]): Flags {
  const byFlag = new Map(Object.keys(table).map((setting) => [flagName(setting), setting]));
  const flags: Flags = { values: new Map(), help: false, version: false, mistakes: [] };
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] as string;
    if (word === "--help" || word === "-h") flags.help = true;
    else if (word === "--version") flags.version = true;
    else if (!word.startsWith("--") && word !== "-debug")
      // Its text is not told: it may be the value of a flag that was misspelt, and a secret.
      flags.mistakes.push({ setting: "", where: `argument ${at + 1}`, problem: "is not a flag; berthd takes no other arguments" });
    else at += takeFlag(table, byFlag, flags, word === "-debug" ? "--debug" : word, argv[at + 1]);
  }
  return flags;
}

/** Returns how many words after this one belong to it. */
function takeFlag(table: OptionTable, byFlag: ReadonlyMap<string, string>, flags: Flags, word: string, next: string | undefined): 0 | 1 {
  const separator = word.indexOf("=");
  const written = word.slice(2, separator === -1 ? undefined : separator);
  const text = separator === -1 ? undefined : word.slice(separator + 1);
  const negated = written.startsWith("no-") && !byFlag.has(written);
  const setting = byFlag.get(negated ? written.slice(3) : written);
  const option = setting === undefined ? undefined : table[setting];
  const hasNext = next !== undefined && !next.startsWith("--");
  const wrong = (problem: string, takesNext = false): 0 | 1 => {
    flags.mistakes.push({ setting: setting ?? "", where: `--${written.slice(0, 60)}`, problem });
    return takesNext && text === undefined && hasNext ? 1 : 0;
  };
  if (setting === undefined || option === undefined) {
    const meant = suggest(written, byFlag.keys());
    return wrong(`is no flag of berthd${meant === undefined ? "" : `; did you mean --${meant}?`}`, true);
  }
  if (option.secret) {
    const elsewhere = option.environment.length > 0 ? `by ${option.environment[0]?.name} in the environment or ` : "";
    return wrong(`would show its value in the list of processes; give it ${elsewhere}in the file`, true);
  }
  if (option.type === "yaml") return wrong("is a section of the file and cannot be a flag", true);
  const flag = `--${written}`;
  if (negated) {
    if (option.type !== "boolean" || text !== undefined) return wrong("only a switch can be negated, without a value");
    flags.values.set(setting, { flag, text: "false" });
    return 0;
  }
  if (text !== undefined) {
    flags.values.set(setting, { flag, text });
    return 0;
  }
  if (option.type === "boolean") {
    flags.values.set(setting, { flag, text: "true" });
    return 0;
  }
  if (!hasNext) return wrong("needs a value");
  flags.values.set(setting, { flag, text: next });
  return 1;
}
