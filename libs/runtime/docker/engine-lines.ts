import type { IncomingMessage } from "node:http";

const MAX_LINE_CHARACTERS = 8 * 1024 * 1024;

/**
 * Reads a stream of JSON lines until it ends in any way and resolves with how: undefined for a proper end, else the error
 * (Docker's streams end by `error` and `close`, hardly ever by `end`). Rejects with what `onLine` throws, after closing the stream.
 */
export function readLines(response: IncomingMessage, onLine: (line: string) => void): Promise<Error | undefined> {
  return new Promise((resolve, reject) => {
    let rest = "";
    let failure: Error | undefined;
    response.setEncoding("utf8");
    response.on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() as string;
      if (rest.length > MAX_LINE_CHARACTERS) return void response.destroy(new Error("a line of dockerd's answer is too long"));
      try {
        for (const line of lines) {
          if (line.trim() !== "") onLine(line);
        }
      } catch (error) {
        reject(error);
        response.destroy();
      }
    });
    response.on("error", (error) => {
      failure = error;
    });
    response.once("close", () => resolve(response.readableEnded ? undefined : (failure ?? new Error("the connection was closed"))));
  });
}
