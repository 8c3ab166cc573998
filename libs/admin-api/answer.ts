import * as z from "zod/mini";

/** The body of every answer whose status is not 200, and the last line of a stream that could not go on. */
export const ErrorBody = z.object({ error: z.string() });
export type ErrorBody = z.infer<typeof ErrorBody>;

/** How an answer is read. */
export type AnswerSchema<Answer> = z.ZodMiniType<Answer>;

/** An answer that is not what its schema says: the two sides are of versions that do not fit. */
export class AnswerMisfit extends Error {
  override readonly name = "AnswerMisfit";
}

/** How many wrong fields are named: one wrong field of a hundred tasks says no more than that of the first. */
const NAMED = 3;

/**
 * Reads an answer's JSON. What the schema does not name passes, and is not in the result. Throws an {@link AnswerMisfit} that names
 * the fields that do not fit, never their values: those may be long, or nobody's business.
 */
export function readAnswer<Answer>(schema: AnswerSchema<Answer>, json: unknown): Answer {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const { issues } = result.error;
  const named = issues.slice(0, NAMED).map((issue) => describeIssue(issue, json));
  const more = issues.length > NAMED ? [`and ${issues.length - NAMED} more`] : [];
  throw new AnswerMisfit([...named, ...more].join("; "));
}

function describeIssue({ path, ...issue }: z.core.$ZodIssue, json: unknown): string {
  if (json === undefined) return "the answer is not JSON";
  const field = path.length === 0 ? "the answer" : `"${path.join(".")}"`;
  const value = path.reduce<unknown>((inner, key) => (inner as Record<PropertyKey, unknown> | null | undefined)?.[key], json);
  if (value === undefined) return `${field} is missing`;
  if (issue.code === "invalid_type") return `${field} is ${kind(value)}, not ${EXPECTED[issue.expected] ?? issue.expected}`;
  if (issue.code === "invalid_value") return `${field} is none of ${issue.values.map((known) => JSON.stringify(known)).join(", ")}`;
  return `${field} does not fit`;
}

const EXPECTED: Readonly<Record<string, string>> = {
  string: "a text",
  number: "a number",
  boolean: "true or false",
  object: "an object",
  record: "an object",
  array: "a list",
};

function kind(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "a list" : (EXPECTED[typeof value] ?? typeof value);
}
