import { type Environment, lookUp, unknownVariables } from "./environment.ts";
import { readSettingsFile } from "./file.ts";
import { type Flags, parseFlags } from "./flags.ts";
import type { OptionRecord, OptionTable } from "./option.ts";
import { type HostSettings, OPTIONS, type OptionName, type SectionName } from "./options.ts";
import { suggest } from "./suggest.ts";
import { withoutUser } from "./url-user.ts";
import { defaultValue, type Parsed, parseFileValue, parseText } from "./value.ts";

/** Where a setting's value came from: "--flag", "NAME in the environment", "/etc/berth/berth.yaml:3", "default". */
export type Origins = Readonly<Record<OptionName, string>>;

/** Something that stops the daemon. `where` is a flag, a variable or a place in the file; no secret is ever in it. */
export interface Mistake {
  /** Empty where the setting is not known. */
  setting: string;
  where: string;
  problem: string;
}

/** What a zod schema is, as far as this library cares: those of nested sections belong to libraries above this one. */
export interface SectionSchema<Section = unknown> {
  safeParse(
    value: unknown,
  ): { success: true; data: Section } | { success: false; error: { issues: readonly { path: readonly PropertyKey[]; message: string }[] } };
}

/** Schemas by section. A section that is not in the file is given to its schema as undefined, so that it can fill in defaults. */
export type SectionSchemas = Readonly<Partial<Record<SectionName, SectionSchema>>>;

/** The settings of type `yaml` as their schemas make them. */
export type SectionsOf<Schemas extends SectionSchemas> = {
  readonly [Name in keyof Schemas]: Schemas[Name] extends SectionSchema<infer Section> ? Section : unknown;
};

export interface LoadInput<Schemas extends SectionSchemas = SectionSchemas> {
  /** Without node and script. */
  argv: readonly string[];
  environment: Environment;
  /** Returns the file's text, or undefined where it does not exist. May throw for one that cannot be read. */
  readFile: (path: string) => string | undefined;
  /** For the sections of type `yaml`, by setting; one without a schema is taken as it is. */
  schemas?: Schemas;
}

export interface LoadedSettings<Schemas extends SectionSchemas = Record<never, never>> {
  /** Complete even where there are mistakes; those settings then have their defaults. */
  settings: Omit<HostSettings, keyof Schemas> & SectionsOf<Schemas>;
  origins: Origins;
  /** All of them, not only the first. */
  mistakes: Mistake[];
  warnings: string[];
  /** The command line asked for this instead of a start. */
  request?: "help" | "version";
}

/** Reads the daemon's settings: flag, then environment, then file, then default. Never throws for what is written in them. */
export function loadSettings<const Schemas extends SectionSchemas = Record<never, never>>(
  input: LoadInput<Schemas>,
): LoadedSettings<Schemas> {
  const table: OptionTable = OPTIONS;
  const flags = parseFlags(table, input.argv);
  const mistakes: Mistake[] = [...flags.mistakes];
  const warnings = unknownVariables(table, input.environment, "the environment");
  const file = readNamedFile(input, flags, mistakes);
  const settings: Record<string, unknown> = {};
  const origins: Record<string, string> = {};

  for (const [name, option] of Object.entries(table)) {
    const found = firstSource(name, option, flags, input.environment, file, warnings);
    if (found !== undefined && !found.parsed.ok)
      mistakes.push({ setting: name, where: found.where, problem: unfit(option, found.text, found.parsed.expected) });
    const taken = found?.parsed.ok ? found : undefined;
    settings[name] = taken?.parsed.ok ? taken.parsed.value : defaultValue(option);
    origins[name] = taken?.where ?? "default";
    if (taken !== undefined && option.unsupported !== undefined) warnings.push(`${taken.where} has no effect: ${option.unsupported}`);
  }
  parseSections(input.schemas ?? {}, table, settings, origins, mistakes);
  const loaded = settings as unknown as HostSettings;
  checkTogether(loaded, origins as Origins, mistakes, warnings);
  return {
    settings: settings as LoadedSettings<Schemas>["settings"],
    origins: origins as Origins,
    mistakes,
    warnings,
    ...(flags.help ? { request: "help" as const } : flags.version ? { request: "version" as const } : {}),
  };
}

/** A mistake as one line for a person. */
export function describeMistake({ setting, where, problem }: Mistake): string {
  // A flag or a variable is told by its name; a place in the file needs the key as well.
  return setting !== "" && !where.startsWith("--") ? `${where}: ${setting}: ${problem}` : `${where}: ${problem}`;
}

/** "expected a duration like 30s, not "soon"". A secret's text is not told. */
export function unfit(option: OptionRecord, text: string, expected: string): string {
  const masked = withoutUser(text);
  const shown = masked.length > 60 ? `${masked.slice(0, 60)}…` : masked;
  return `expected ${expected}${option.secret ? "" : `, not ${JSON.stringify(shown)}`}`;
}

interface Found {
  where: string;
  /** As written, for a mistake. */
  text: string;
  parsed: Parsed;
}

function firstSource(
  name: string,
  option: OptionRecord,
  flags: Flags,
  environment: Environment,
  file: ReadonlyMap<string, Found>,
  warnings: string[],
): Found | undefined {
  const flag = flags.values.get(name);
  if (flag !== undefined) return { where: flag.flag, text: flag.text, parsed: parseText(option, flag.text) };
  const looked = lookUp(name, option, environment);
  warnings.push(...looked.warnings);
  if (looked.found !== undefined)
    return { where: `${looked.found.name.name} in the environment`, text: looked.found.text, parsed: looked.found.parsed };
  return file.get(name);
}

/** The file's values by setting. A file that is named must be there; the default one need not. */
function readNamedFile(input: Pick<LoadInput, "environment" | "readFile">, flags: Flags, mistakes: Mistake[]): Map<string, Found> {
  const flag = flags.values.get("config");
  const variable = input.environment.BERTH_CONFIG || undefined;
  const path = flag?.text ?? variable ?? OPTIONS.config.default;
  const values = new Map<string, Found>();
  let text: string | undefined;
  try {
    text = input.readFile(path);
  } catch (error) {
    mistakes.push({ setting: "", where: path, problem: `cannot be read: ${(error as Error).message}` });
    return values;
  }
  if (text === undefined) {
    const by = flag?.flag ?? (variable === undefined ? undefined : "BERTH_CONFIG in the environment");
    if (by !== undefined) mistakes.push({ setting: "", where: path, problem: `does not exist, but is named by ${by}` });
    return values;
  }
  const content = readSettingsFile(path, text);
  for (const { place, problem } of content.problems) mistakes.push({ setting: "", where: place, problem });
  for (const { key, value, text: written, place } of content.entries) {
    const option = Object.hasOwn(OPTIONS, key) ? (OPTIONS as OptionTable)[key] : undefined;
    if (option === undefined) {
      const meant = suggest(key, Object.keys(OPTIONS));
      mistakes.push({
        setting: "",
        where: place,
        problem: `"${key.slice(0, 60)}" is no setting${meant === undefined ? "" : `; did you mean ${meant}?`}`,
      });
    } else if (key === "config") {
      mistakes.push({ setting: key, where: place, problem: "the file cannot name itself" });
    } else if (value !== null) {
      // A key with nothing behind it is as good as one that is commented out.
      values.set(key, {
        where: place,
        text: typeof written === "string" ? written : JSON.stringify(value),
        parsed: option.type === "yaml" ? { ok: true, value } : parseFileValue(option, written),
      });
    }
  }
  return values;
}

function parseSections(
  schemas: SectionSchemas,
  table: OptionTable,
  settings: Record<string, unknown>,
  origins: Record<string, string>,
  mistakes: Mistake[],
): void {
  for (const [name, option] of Object.entries(table)) {
    const schema = schemas[name as SectionName];
    if (option.type !== "yaml" || schema === undefined) continue;
    const result = schema.safeParse(settings[name] ?? undefined);
    if (result.success) {
      settings[name] = result.data;
      continue;
    }
    for (const { path, message } of result.error.issues) {
      mistakes.push({ setting: [name, ...path.map(String)].join("."), where: origins[name] ?? "default", problem: message });
    }
  }
}

/** What no setting can tell alone. */
function checkTogether(settings: HostSettings, origins: Origins, mistakes: Mistake[], warnings: string[]): void {
  for (const name of settings.taskOverrides) {
    const option = Object.hasOwn(OPTIONS, name) ? (OPTIONS as OptionTable)[name] : undefined;
    if (option?.scope === "task") continue;
    const meant = suggest(
      name,
      Object.keys(OPTIONS).filter((other) => (OPTIONS as OptionTable)[other]?.scope === "task"),
    );
    const problem = option === undefined ? `"${name}" is no setting` : `"${name}" is a setting of the host and cannot be opened to tasks`;
    mistakes.push({
      setting: "taskOverrides",
      where: origins.taskOverrides,
      problem: `${problem}${meant && !option ? `; did you mean ${meant}?` : ""}`,
    });
  }
  for (const name of ["socket", "adminSocket"] as const) {
    if (new TextEncoder().encode(settings[name]).length <= 107) continue;
    mistakes.push({ setting: name, where: origins[name], problem: "expected a path of at most 107 bytes, as the kernel wants it" });
  }
  if (settings.awsRoleMaxTtl !== 0 && settings.awsRoleTtl > settings.awsRoleMaxTtl) {
    mistakes.push({ setting: "awsRoleTtl", where: origins.awsRoleTtl, problem: "expected at most awsRoleMaxTtl" });
  }
  if (settings.useCpuShares && !settings.forceCpuLimit) warnings.push("useCpuShares has no effect without forceCpuLimit");
}
