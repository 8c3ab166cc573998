import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from "yaml";

/** One key of the settings file, with the place it stands at. */
export interface FileEntry {
  key: string;
  value: unknown;
  /**
   * A scalar as it is written (010 and 1.10 are not yet numbers), the scalars of a list, undefined for anything else. So a value
   * means the same in the file as in the environment.
   */
  text: string | readonly string[] | undefined;
  /** "/etc/berth/berth.yaml:12" */
  place: string;
}

export interface FileContent {
  entries: FileEntry[];
  /** What is wrong with the file as YAML, each with its place. */
  problems: { place: string; problem: string }[];
}

/** Takes a YAML text apart into its keys at the top. Never throws, and never tells what is written in the file besides keys. */
export function readSettingsFile(path: string, text: string): FileContent {
  const lines = new LineCounter();
  // The parser's own warnings would go to the process and may quote the file.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, logLevel: "error" });
  const place = (offset: number): string => `${path}:${lines.linePos(offset).line}`;
  // The parser's messages may quote the line, and a secret with it: its codes do not.
  const problems = document.errors.map((error) => ({
    place: place(error.pos[0]),
    problem: `is not valid YAML (${error.code === "DUPLICATE_KEY" ? "a key stands twice" : error.code.toLowerCase().replaceAll("_", " ")})`,
  }));
  if (problems.length > 0) return { entries: [], problems };
  if (document.contents === null) return { entries: [], problems: [] };
  if (!isMap(document.contents))
    return { entries: [], problems: [{ place: `${path}:1`, problem: "expected lines of the form key: value" }] };
  const entries: FileEntry[] = [];
  for (const pair of document.contents.items) {
    const key = pair.key as { value?: unknown; range?: [number, number, number] };
    const where = place(key.range?.[0] ?? 0);
    try {
      const node = resolved(pair.value as Node | null, document);
      entries.push({ key: String(key.value), value: node?.toJS(document) ?? null, text: textOf(node, document), place: where });
    } catch {
      problems.push({ place: where, problem: "is not valid YAML (an alias that has no anchor or never ends)" });
    }
  }
  return { entries, problems };
}

function resolved(node: Node | null, document: Document): Node | undefined {
  if (!isAlias(node)) return node ?? undefined;
  const target = node.resolve(document);
  if (target === undefined) throw new ReferenceError("an alias has no anchor");
  return target;
}

function textOf(node: Node | undefined, document: Document): FileEntry["text"] {
  if (isScalar(node)) return node.source ?? String(node.value);
  if (!isSeq(node)) return undefined;
  const texts = node.items.map((item) => resolved(item as Node | null, document));
  return texts.every((item) => isScalar(item) && item.value !== null) ? texts.map((item) => textOf(item, document) as string) : undefined;
}
