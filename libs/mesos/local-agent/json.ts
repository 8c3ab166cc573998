/**
 * JSON as the agent writes it (stout/protobuf.hpp and its patched rapidjson): infinite doubles as the string "Infinity",
 * doubles always with a fraction ("1.0"), 64-bit integers as bare numbers of any size.
 */

/** Fields that are doubles wherever they occur in a TaskInfo or in the infos of SUBSCRIBED. `value` of a number is a Value.Scalar. */
const DOUBLES = new Set(["value", "delay_seconds", "interval_seconds", "timeout_seconds", "grace_period_seconds", "failover_timeout"]);

/** Writes a value as the agent does. Pass 64-bit integers above 2^53 as bigint. */
export function writeAgentJson(value: unknown, field = ""): string {
  if (typeof value === "number") return writeNumber(value, field);
  if (typeof value === "bigint") return value.toString();
  if (Array.isArray(value)) return `[${value.map((entry) => writeAgentJson(entry, field)).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${writeAgentJson(member, name)}`).join(",")}}`;
}

function writeNumber(value: number, field: string): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? '"NaN"' : `"${value > 0 ? "" : "-"}Infinity"`;
  const text = String(value);
  return DOUBLES.has(field) && /^-?\d+$/.test(text) ? `${text}.0` : text;
}
