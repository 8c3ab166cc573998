/** A cell wider than this does not push the columns behind it away: they begin after it, wherever that is. */
const WIDEST = 48;

/** Lays rows out in columns, two blanks apart, as `docker ps` does. The first row is the heading. */
export function table(rows: ReadonlyArray<readonly string[]>): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) if (cell.length <= WIDEST) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  }
  return rows
    .map((row) => row.map((cell, column) => (column === row.length - 1 ? cell : `${cell.padEnd(widths[column] ?? 0)}  `)).join(""))
    .join("\n");
}

/** How long ago, in the largest unit that says enough: "12s", "5m", "3h", "2d". */
export function age(since: number, now: number = Date.now()): string {
  const seconds = Math.max(0, Math.round((now - since) / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** Time of day with milliseconds, in the local zone. */
export function clock(at: number): string {
  const date = new Date(at);
  const two = (value: number): string => String(value).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** Time of day, and the date where that is another day than today's. */
export function timestamp(at: number, now: number = Date.now()): string {
  const date = new Date(at);
  if (date.toDateString() === new Date(now).toDateString()) return clock(at);
  const two = (value: number): string => String(value).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(at)}`;
}

/** A time and how long ago it was: "03:12:01.250 (5m ago)". */
export function timeAndAge(at: number, now: number = Date.now()): string {
  return `${timestamp(at, now)} (${age(at, now)} ago)`;
}

/** "912 B", "1.4 MB": decimal units, as `docker` has them. */
export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = count < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(count) / 3));
  return `${power === 0 ? count : (count / 1000 ** power).toFixed(1)} ${units[power]}`;
}

/** As a health is told: "NO" is to be seen among many. */
export function yesNo(value: boolean | null): string {
  return value === null ? "-" : value ? "yes" : "NO";
}

/** Names and values below each other; a value of several lines stays in its column, a name without a value is left out. */
export function fields(rows: ReadonlyArray<readonly [name: string, value: string | null | undefined]>): string {
  const width = Math.max(...rows.map(([name]) => name.length)) + 2;
  const shown = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return shown.map(([name, value]) => `${name.padEnd(width)}${value?.replaceAll("\n", `\n${" ".repeat(width)}`)}`).join("\n");
}

/** Every line moved to the right by two blanks. */
export function indent(text: string): string {
  return text.replaceAll(/^(?=.)/gm, "  ");
}

/** One thing that happened, of a task that is named only where it may be any. */
export function eventLine(
  event: { at: number; taskId?: string; what: string; detail?: string | undefined },
  now: number = Date.now(),
): string {
  const task = event.taskId === undefined ? "" : `${event.taskId}  `;
  const detail = event.detail === undefined ? "" : `: ${event.detail.replaceAll("\n", "\n    ")}`;
  return `${timestamp(event.at, now)}  ${task}${event.what}${detail}`;
}

export function print(text: string): void {
  process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
}
