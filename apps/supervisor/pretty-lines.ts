const LEVELS: Record<number, string> = { 10: "trace", 20: "debug", 30: "info", 40: "WARN", 50: "ERROR", 60: "FATAL" };

/** Lays one JSON log line out for a person: `09:26:53.120 info  the task is planned  taskId=web image=nginx`. */
export function prettyLines(line: string): string {
  let entry: Record<string, unknown>;
  try {
    entry = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return line;
  }
  const { level, time, msg, err, ...fields } = entry;
  const clock = String(time).slice(11, 23);
  const rest = Object.entries(fields).map(([key, value]) => `${key}=${typeof value === "string" ? quoted(value) : JSON.stringify(value)}`);
  if (typeof err === "string") rest.push(`error=${quoted(err)}`);
  const stack =
    typeof err === "object" && err !== null ? `\n    ${String((err as { stack?: unknown }).stack).replaceAll("\n", "\n    ")}` : "";
  return `${clock} ${(LEVELS[Number(level)] ?? "info").padEnd(5)} ${String(msg)}${rest.length > 0 ? `  ${rest.join(" ")}` : ""}${stack}\n`;
}

function quoted(text: string): string {
  return /^[^\s"=]+$/.test(text) ? text : JSON.stringify(text);
}
