import { flagName } from "./flags.ts";
import type { OptionRecord, OptionTable } from "./option.ts";
import { OPTION_GROUPS } from "./options.ts";
import { describeRange } from "./value.ts";

const GROUPS: readonly { title: string; options: OptionTable }[] = OPTION_GROUPS;

/** What `berthd --help` prints. */
export function helpText(width = 100): string {
  const lines = [
    "Usage: berthd [flags]",
    "",
    "A flag goes before the environment, the environment before the file, the file before the default.",
  ];
  for (const { title, options } of GROUPS) {
    lines.push("", `${title}:`);
    for (const [name, option] of Object.entries(options)) {
      if (option.unsupported !== undefined) continue;
      lines.push(`  ${describeFlag(name, option)}`, ...wrap(describeForHelp(option), width - 6).map((line) => `      ${line}`));
    }
  }
  return `${lines.join("\n")}\n`;
}

/** docs/reference/configuration.md */
export function referencePage(): string {
  const lines = [
    "# Configuration",
    "",
    "<!-- Made from the options table by `node libs/config/generate.ts`; a test fails when it is stale. -->",
    "",
    "Every setting of `berthd`. A flag goes before the environment, the environment before the file (`/etc/berth/berth.yaml`, or what `BERTH_CONFIG` or `--config` names), the file before the default.",
    "`berthd` lists every mistake at once and does not start with one; a key of the file that is no setting is a mistake.",
    "",
    "- **Names.** A setting is `killTaskTimeout` in the file and `--kill-task-timeout` as a flag; a switch is turned off by `--no-…`. A secret cannot be a flag, because `ps` would show it.",
    "- **Environment.** The names of a row are looked up from left to right, and the first that is set counts. A name without a prefix (in parentheses) may belong to another program: a value that does not fit is passed over with a warning, while under any other name it is a mistake. In particular `DEBUG=express:*` does not stop the daemon. A variable that is set but empty counts as not set, with a warning, where a row does not say otherwise.",
    "- **Durations** are written as Go writes them: `500ms`, `30s`, `1m30s`, `2h`. A number without a unit is refused, except for the type *seconds*. A duration that a timer is set from is at most 24 days (`576h`). Whole numbers are also read as `0x10` and, with a leading 0, as octal. Sizes are `500000`, `64KiB`, `8MiB`. Lists are separated by commas, blanks around them are dropped; in the file they may be YAML lists.",
    "- **Scope.** A setting of scope *task* may be changed by a task for itself, by its executor's environment, if `taskOverrides` holds its name. An override that is not allowed is ignored with a warning; one that does not fit fails the task.",
    "- **Secrets** are never printed: `berthd` shows where they came from.",
  ];
  for (const { title, options } of GROUPS) {
    lines.push(
      "",
      `## ${title}`,
      "",
      "| setting | type | default | environment | scope | meaning |",
      "| --- | --- | --- | --- | --- | --- |",
    );
    for (const [name, option] of Object.entries(options)) lines.push(tableRow(name, option));
  }
  return `${lines.join("\n")}\n`;
}

/** deploy/berth.yaml.example: everything commented out, with its default. */
export function exampleFile(): string {
  const lines = [
    "# Settings of berthd: copy to /etc/berth/berth.yaml and uncomment what you change.",
    "# Made from the options table by `node libs/config/generate.ts`. Each one is described in docs/reference/configuration.md.",
  ];
  for (const { title, options } of GROUPS) {
    lines.push("", `# --- ${title} ---`);
    for (const [name, option] of Object.entries(options)) {
      if (option.unsupported !== undefined || name === "config" || (option.readBy !== undefined && name !== "socket")) continue;
      lines.push("", ...wrap(option.description, 118).map((line) => `# ${line}`), `#${name}: ${yamlDefault(option)}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

function describeFlag(name: string, option: OptionRecord): string {
  if (option.secret) return `(${option.environment[0]?.name ?? name}, no flag: it is a secret)`;
  if (option.type === "yaml") return `(${name}: only in the file)`;
  return option.type === "boolean" ? `--[no-]${flagName(name)}` : `--${flagName(name)} <${option.type}>`;
}

function describeForHelp(option: OptionRecord): string {
  const names = option.environment.filter(({ kind, deprecated }) => kind === "own" && !deprecated).map(({ name }) => name);
  const shown = plainDefault(option);
  return `${option.description} ${describeType(option)}.${shown === "" ? "" : ` Default ${shown}.`}${names.length === 0 ? "" : ` Environment: ${names.join(", ")}.`}`;
}

function describeType(option: OptionRecord): string {
  if (option.type === "enum") return `One of ${option.values.join(", ")}`;
  if (option.type === "integer" || option.type === "number") return `A number${describeRange(option.minimum, option.maximum)}`;
  return `Type ${option.type}`;
}

function tableRow(name: string, option: OptionRecord): string {
  const type =
    option.type === "enum"
      ? option.values.map((value) => `\`${value}\``).join(", ")
      : option.type === "integer" || option.type === "number"
        ? `${option.type}${describeRange(option.minimum, option.maximum)}`
        : option.type === "yaml"
          ? "section"
          : option.type;
  const shown = plainDefault(option);
  const names = option.environment.map(({ name: variable, kind, deprecated }) => {
    if (kind === "bare") return `(\`${variable}\`)`;
    return `\`${variable}\`${deprecated ? " (deprecated)" : ""}`;
  });
  const notes = [
    option.secret ? "Secret." : "",
    option.readBy === "worker" ? "Read by the worker, from the executor's environment." : "",
    option.unsupported === undefined ? "" : `Accepted without effect: ${option.unsupported}.`,
  ].filter((note) => note !== "");
  const cells = [
    `\`${name}\``,
    type,
    shown === "" ? "" : `\`${shown}\``,
    names.join(" "),
    option.scope,
    [option.description, ...notes].join(" "),
  ];
  return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
}

function plainDefault(option: OptionRecord): string {
  if (option.type === "yaml") return "";
  return option.type === "list" ? option.default.join(", ") : String(option.default);
}

function yamlDefault(option: OptionRecord): string {
  if (option.type === "yaml") return "";
  if (option.type === "list") return `[${option.default.join(", ")}]`;
  return option.type === "boolean" || option.type === "integer" || option.type === "number" || option.type === "seconds"
    ? String(option.default)
    : JSON.stringify(option.default);
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
