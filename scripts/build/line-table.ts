import { relative, resolve } from "node:path";

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/**
 * From a source map (version 3) to the table that apps/worker/lean/src/stack_lines.rs reads: the sources' paths relative to
 * `root`, separated by tabs, then one line per generated line: `<index of the source> <line>`, or nothing. `folder` is where the map lies.
 */
export function lineTable(sourceMap: string, folder: string, root: string): string {
  const { sources, mappings } = JSON.parse(sourceMap) as { sources: string[]; mappings: string };
  const paths = sources.map((source) => relative(root, resolve(folder, source)));
  let source = 0;
  let line = 0;
  const lines = mappings.split(";").map((generated) => {
    let first = "";
    for (const segment of generated.split(",")) {
      const [, sourceStep, lineStep] = decode(segment);
      if (sourceStep === undefined || lineStep === undefined) continue;
      source += sourceStep;
      line += lineStep;
      first ||= `${source} ${line + 1}`;
    }
    return first;
  });
  return `${[paths.join("\t"), ...lines].join("\n")}\n`;
}

/** The numbers of one segment, base64 VLQ. */
function decode(segment: string): number[] {
  const numbers: number[] = [];
  let value = 0;
  let shift = 0;
  for (const character of segment) {
    const digit = DIGITS.indexOf(character);
    value |= (digit & 31) << shift;
    shift += 5;
    if ((digit & 32) !== 0) continue;
    numbers.push((value & 1) === 1 ? -(value >> 1) : value >> 1);
    value = 0;
    shift = 0;
  }
  return numbers;
}
