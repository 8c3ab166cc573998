export { ShellWordsError, shellWords } from "./shell-words.ts";
