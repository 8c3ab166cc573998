import { readFile } from "node:fs/promises";
import { InvalidArgumentError } from "commander";

/** A file's JSON; "-" is standard input. Throws an error for the person who named the file. */
export async function readJsonFile(file: string): Promise<unknown> {
  const text = await readFile(file === "-" ? "/dev/stdin" : file, "utf8");
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new InvalidArgumentError(
      `${file === "-" ? "standard input" : file} is not JSON: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}
