/** UTF-16 with a half of a pair alone in it cannot be said in UTF-8: as everywhere, U+FFFD stands for it. */
export function wellFormed(text: string): string {
  return text.toWellFormed();
}
