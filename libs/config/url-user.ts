/** The same text with user and password of URLs in it left out: "https://…@host". */
export function withoutUser(text: string): string {
  return text.replace(/:\/\/[^/\s"]*@/g, "://…@");
}
