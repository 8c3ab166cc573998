/** What one setting is, as a record of the options table. Everything about settings is made from these records. */

/** A variable that a setting is read from. Looked up in the order of the record; the first that is set counts. */
export interface EnvironmentName {
  name: string;
  /**
   * `own`: ours, or a name that belongs to one program only. `bare`: a name without a prefix, which anything else may have set for
   * itself (DEBUG, HTTP_TIMEOUT): a value that does not fit is then a warning and is passed over, it never stops the daemon.
   */
  kind: "own" | "bare";
  /** Still read, with a warning that names the one to use. */
  deprecated?: true;
}

interface OptionHead {
  /** `host`: one value for the daemon. `task`: decides how one task runs, and may be opened to tasks by `taskOverrides`. */
  scope: "host" | "task";
  environment: readonly EnvironmentName[];
  description: string;
  since: "0.1";
  /** The value is never shown, and cannot be given as a flag, where `ps` would show it. */
  secret?: true;
  /** Read by the worker itself from the executor's environment; the daemon's file and flags do not reach it. */
  readBy?: "worker";
  /** An empty text is a value of its own; with all others it counts as not set. */
  emptyCounts?: true;
  /** Accepted so that old environments start, without effect: the reason. */
  unsupported?: string;
}

/**
 * `positive`: a millisecond or more, for intervals. `long`: no timer is set from it, so that it may be longer than a timer can be
 * (24 days, beyond which Node fires at once).
 */
export type OptionRecord = OptionHead &
  (
    | { type: "duration"; default: string; positive?: true; long?: true }
    | { type: "seconds"; default: number; long?: true }
    | { type: "integer"; default: number; minimum?: number; maximum?: number }
    | { type: "number"; default: number; minimum?: number; maximum?: number }
    | { type: "bytes"; default: string; minimum?: number; maximum?: number }
    | { type: "boolean"; default: boolean }
    | { type: "string" | "path" | "address" | "url" | "pattern"; default: string }
    | { type: "list"; default: readonly string[] }
    | { type: "enum"; default: string; values: readonly string[] }
    | { type: "yaml"; default: null }
  );

/**
 * The type of a setting's parsed value. `duration` and `seconds` are milliseconds, `bytes` is a count. A text that is not set is "";
 * a `yaml` section is what its registered schema makes of it.
 */
export type ValueOf<Record extends OptionRecord> = Record extends { type: "duration" | "seconds" | "integer" | "number" | "bytes" }
  ? number
  : Record extends { type: "boolean" }
    ? boolean
    : Record extends { type: "list" }
      ? readonly string[]
      : Record extends { type: "enum"; values: readonly (infer Value)[] }
        ? Value
        : Record extends { type: "yaml" }
          ? unknown
          : string;

export type OptionTable = Readonly<Record<string, OptionRecord>>;

export type SettingsOf<Table extends OptionTable> = { readonly [Name in keyof Table]: ValueOf<Table[Name]> };

/** `EXECUTOR_<name>`, then the bare name, as sidecar-executor looks them up; allegro's name stands between them where there is one. */
export function executor(name: string, ...allegro: readonly EnvironmentName[]): readonly EnvironmentName[] {
  return [{ name: `EXECUTOR_${name}`, kind: "own" }, ...allegro, { name, kind: "bare" }];
}

/** Names that are looked up as they stand. */
export function named(...names: readonly string[]): readonly EnvironmentName[] {
  return names.map((name) => ({ name, kind: "own" }));
}

/** `ALLEGRO_EXECUTOR_<name>` of allegro's mesos-executor. */
export function allegro(name: string): EnvironmentName {
  return { name: `ALLEGRO_EXECUTOR_${name}`, kind: "own" };
}

/** A name that is read with a warning. */
export function deprecated(name: string): EnvironmentName {
  return { name, kind: "own", deprecated: true };
}
