/** One import of a source file. */
export interface Import {
  specifier: string;
  /** From 1. */
  line: number;
}

const COMMENT_OR_STRING = /\/\*[\s\S]*?\*\/|(?<![:"'`])\/\/[^\n]*/g;
const IMPORT =
  /(?:^|[\s;}])(?:import|export)\s+(?:type\s+)?(?:[\w*$\s{},]+?\s+from\s+)?"([^"\n]+)"|\bimport\(\s*"([^"\n]+)"\s*\)|new URL\(\s*"(\.{1,2}\/[^"\n]+\.[mc]?[jt]s)"\s*,\s*import\.meta\.url/g;

/**
 * Every static import, re-export, import with a literal, and thread entry (`new URL("./x.thread.ts", import.meta.url)`) of a source text, type imports
 * included. Reads by pattern, which biome's formatting of our own files makes safe: double quotes, one statement a line.
 */
export function importsOf(source: string): Import[] {
  const code = source.replaceAll(COMMENT_OR_STRING, (text) => text.replaceAll(/[^\n]/g, " "));
  return [...code.matchAll(IMPORT)].map((match) => ({
    specifier: (match[1] ?? match[2] ?? match[3]) as string,
    line: code.slice(0, match.index + match[0].length).split("\n").length,
  }));
}
