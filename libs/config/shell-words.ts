/** Thrown for a command line that a shell would not take. */
export class ShellWordsError extends Error {
  override readonly name = "ShellWordsError";
}

/**
 * Splits a command line into words as a POSIX shell would: blanks separate, single quotes keep everything, double quotes keep
 * all but `\` before `$`, `` ` ``, `"`, `\` and a newline, a bare `\` keeps the next character. Nothing is expanded: no
 * variables, globs, comments or operators. Throws a {@link ShellWordsError} for a quote that is not closed or a `\` at the end.
 */
export function shellWords(line: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  for (let at = 0; at < line.length; at++) {
    const character = line[at] as string;
    if (/[ \t\n]/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (character === "'") {
      const end = line.indexOf("'", at + 1);
      if (end === -1) throw new ShellWordsError(`the single quote at position ${at + 1} is not closed`);
      word = (word ?? "") + line.slice(at + 1, end);
      at = end;
    } else if (character === '"') {
      const quoted = doubleQuoted(line, at);
      word = (word ?? "") + quoted.text;
      at = quoted.end;
    } else if (character === "\\") {
      if (at + 1 === line.length) throw new ShellWordsError("a backslash stands at the end");
      at += 1;
      // A backslash before a newline joins the two lines.
      if (line[at] !== "\n") word = (word ?? "") + (line[at] as string);
    } else {
      word = (word ?? "") + character;
    }
  }
  if (word !== undefined) words.push(word);
  return words;
}

function doubleQuoted(line: string, start: number): { text: string; end: number } {
  let text = "";
  for (let at = start + 1; at < line.length; at++) {
    const character = line[at] as string;
    if (character === '"') return { text, end: at };
    const next = line[at + 1];
    if (character === "\\" && next !== undefined && '$`"\\\n'.includes(next)) {
      if (next !== "\n") text += next;
      at += 1;
    } else {
      text += character;
    }
  }
  throw new ShellWordsError(`the double quote at position ${start + 1} is not closed`);
}
