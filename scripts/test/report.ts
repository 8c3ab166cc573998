import { relative } from "node:path";
import type { run } from "node:test";
import { inspect } from "node:util";
import { projectRoot } from "../node-path.mjs";

/** What a run has counted so far. Suites are not counted, only tests. */
export interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

type Events = ReturnType<typeof run>;
type Result = {
  file?: string;
  name: string;
  nesting: number;
  skip?: string | boolean;
  todo?: string | boolean;
  details: { type?: string; error?: unknown; duration_ms: number };
};

/** One file's tests, gathered until the file is done. */
interface FileReport {
  passed: number;
  failures: string[];
  skipped: string[];
  milliseconds: number;
  output: string;
}

/**
 * Reads the test runner's events and prints one line for a file that passes, and for one that does not each failure with its
 * error and what the file printed. (Node's own reporters mix the failures of files that run side by side.) Returns the files that failed.
 */
export async function report(events: Events, tally: Tally): Promise<string[]> {
  const files = new Map<string, FileReport>();
  const failed = new Set<string>();
  const of = (file: string | undefined): FileReport => {
    const name = file ?? "(no file)";
    const known = files.get(name) ?? { passed: 0, failures: [], skipped: [], milliseconds: 0, output: "" };
    files.set(name, known);
    return known;
  };
  for await (const { type, data } of events) {
    switch (type) {
      case "test:pass":
        count(of((data as Result).file), data as Result, tally);
        break;
      case "test:fail":
        fail(of((data as Result).file), data as Result, tally);
        if ((data as Result).file !== undefined) failed.add((data as Result).file as string);
        break;
      case "test:stdout":
      case "test:stderr":
        of(data.file).output += data.message;
        break;
      case "test:summary":
        if (data.file !== undefined) {
          print(data.file, of(data.file));
          files.delete(data.file);
        }
        break;
    }
  }
  // A file that ended in the middle has no summary of its own.
  for (const [file, known] of files) if (known.failures.length > 0) print(file, known);
  return [...failed];
}

function count(file: FileReport, result: Result, tally: Tally): void {
  if (result.nesting === 0) file.milliseconds += result.details.duration_ms;
  if (result.details.type === "suite") return;
  if (result.skip !== undefined && result.skip !== false) {
    tally.skipped += 1;
    file.skipped.push(`${result.name}${typeof result.skip === "string" && result.skip !== "" ? `: ${result.skip}` : ""}`);
  } else {
    tally.passed += 1;
    file.passed += 1;
  }
}

function fail(file: FileReport, result: Result, tally: Tally): void {
  const error = result.details.error as { cause?: unknown; failureType?: string; exitCode?: number; signal?: string } | undefined;
  // A parent fails because a subtest did: that one was told already.
  if (error?.failureType === "subtestsFailed") return;
  tally.failed += 1;
  if (error?.failureType === "testCodeFailure" && (error.exitCode !== undefined || error.signal !== undefined)) {
    const how = error.signal ? `was ended by ${error.signal}` : `exited with ${error.exitCode}`;
    file.failures.push(`the file ${how} before its tests were done`);
    return;
  }
  const cause = error?.cause ?? error;
  const text = cause instanceof Error ? (cause.stack ?? cause.message) : inspect(cause);
  const detail = cause instanceof Error && cause.cause !== undefined ? `\ncaused by ${inspect(cause.cause)}` : "";
  file.failures.push(`${result.name}\n${indent(withoutRunner(text + detail))}`);
}

function print(file: string, { passed, failures, skipped, milliseconds, output }: FileReport): void {
  const name = relative(projectRoot, file);
  const counts = [`${passed} passed`, ...(failures.length > 0 ? [`${failures.length} failed`] : [])].join(", ");
  console.log(`${failures.length === 0 ? "✔" : "✖"} ${name} (${counts}, ${(milliseconds / 1000).toFixed(1)} s)`);
  for (const one of skipped) console.log(`  - skipped: ${one}`);
  for (const failure of failures) console.log(`  ✖ ${failure}\n`);
  if (failures.length > 0 && output.trim() !== "") console.log(`  what ${name} printed:\n${indent(output.trimEnd().slice(-8_000))}\n`);
}

/** Stack lines of the runner itself tell nobody anything. */
function withoutRunner(stack: string): string {
  return stack
    .split("\n")
    .filter((line) => !/^\s+at .*(node:(internal\/|async_hooks)|\(<anonymous>\)$)/.test(line))
    .join("\n");
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, "    ");
}
