import { closeSync, openSync, readSync } from "node:fs";

const LOOK_EVERY_MS = 100;

/** Hands out what is appended to a file, from its beginning; a file that does not exist yet is waited for. */
export function tailFile(path: string, onText: (text: string) => void): { finish(): void } {
  const decoder = new TextDecoder();
  const chunk = Buffer.alloc(64 * 1024);
  let position = 0;
  function look(): void {
    let fd: number;
    try {
      fd = openSync(path, "r");
    } catch {
      return;
    }
    try {
      for (;;) {
        const read = readSync(fd, chunk, 0, chunk.length, position);
        if (read === 0) return;
        position += read;
        onText(decoder.decode(chunk.subarray(0, read), { stream: true }));
      }
    } finally {
      closeSync(fd);
    }
  }
  const timer = setInterval(look, LOOK_EVERY_MS);
  return {
    finish: () => {
      clearInterval(timer);
      look();
    },
  };
}
