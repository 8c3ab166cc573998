/**
 * For tests that prove that no secret was written anywhere: search files and texts for values in all their forms.
 */
import { lstat, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { formsOf } from "./forms.ts";

/** A value that must not be found; `label` stands for it in the report. */
export interface ForbiddenValue {
  label: string;
  value: string;
}

export interface Leak {
  label: string;
  /** The file, or the name that the text was given. */
  where: string;
  /** Characters before the hit, without the value itself. */
  before: string;
}

/** Every place in `text` where a forbidden value shows, one per form. */
export function leaksInText(text: string, where: string, forbidden: readonly ForbiddenValue[]): Leak[] {
  const leaks: Leak[] = [];
  for (const { label, value } of forbidden) {
    for (const form of formsOf(value)) {
      const at = text.indexOf(form);
      if (at >= 0) leaks.push({ label, where, before: text.slice(Math.max(0, at - 60), at) });
    }
  }
  return leaks;
}

/** The same for every regular file under the given files and directories. Symbolic links are not followed; a file that vanishes is skipped. */
export async function leaksInFiles(paths: readonly string[], forbidden: readonly ForbiddenValue[]): Promise<Leak[]> {
  const leaks: Leak[] = [];
  for (const path of paths) {
    try {
      const info = await lstat(path);
      if (info.isDirectory())
        leaks.push(
          ...(await leaksInFiles(
            (await readdir(path)).map((name) => join(path, name)),
            forbidden,
          )),
        );
      else if (info.isFile()) leaks.push(...leaksInText(await readFile(path, "latin1"), path, latin1(forbidden)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  return leaks;
}

/** Files are read as bytes; the values must be looked for as the bytes that they are in UTF-8. */
function latin1(forbidden: readonly ForbiddenValue[]): ForbiddenValue[] {
  return forbidden.flatMap((one) => {
    const bytes = Buffer.from(one.value, "utf8").toString("latin1");
    return bytes === one.value ? [one] : [one, { label: one.label, value: bytes }];
  });
}
