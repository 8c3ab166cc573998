import { isMap, LineCounter, parseDocument } from "yaml";

/** One key of the settings file, with the place it stands at. */
export interface FileEntry {
  key: string;
  value: unknown;
  /** "/etc/berth/berth.yaml:12" */
  place: string;
}

export interface FileContent {
  entries: FileEntry[];
  /** What is wrong with the file as YAML, each with its place. */
  problems: { place: string; problem: string }[];
}

/** Takes a YAML text apart into its keys at the top. Never throws. */
export function readSettingsFile(path: string, text: string): FileContent {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const place = (offset: number): string => `${path}:${lines.linePos(offset).line}`;
  const problems = document.errors.map((error) => ({ place: place(error.pos[0]), problem: error.message }));
  if (problems.length > 0) return { entries: [], problems };
  if (document.contents === null) return { entries: [], problems: [] };
  if (!isMap(document.contents))
    return { entries: [], problems: [{ place: `${path}:1`, problem: "expected lines of the form key: value" }] };
  const entries: FileEntry[] = [];
  for (const pair of document.contents.items) {
    const key = pair.key as { value?: unknown; range?: [number, number, number] };
    const where = place(key.range?.[0] ?? 0);
    try {
      const node = pair.value as { toJS?(of: unknown): unknown } | null;
      entries.push({ key: String(key.value), value: node?.toJS?.(document) ?? null, place: where });
    } catch (error) {
      // An alias that expands without end, or has no anchor.
      problems.push({ place: where, problem: (error as Error).message });
    }
  }
  return { entries, problems };
}
