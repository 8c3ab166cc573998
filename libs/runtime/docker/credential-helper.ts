import { spawn } from "node:child_process";
import { z } from "zod";

export interface HelperOptions {
  environment: Readonly<Record<string, string | undefined>>;
  timeoutMs: number;
  signal?: AbortSignal;
}

/** A user and a secret, or why there are none, in words that hold neither. */
export type HelperAnswer = { username: string; secret: string } | { problem: string };

const Answer = z.object({ Username: z.string(), Secret: z.string() });
/** More than any helper has to say. */
const MAX_OUTPUT_BYTES = 1024 * 1024;

/**
 * Runs `docker-credential-<helper> get`: the server's address goes to its standard input, JSON comes from its standard output.
 * Never rejects. Its output is never repeated: on success it is the secret, on failure nobody knows what it is.
 */
export function callCredentialHelper(helper: string, serverAddress: string, options: HelperOptions): Promise<HelperAnswer> {
  // The name comes from a file: it must not lead to a program elsewhere.
  if (!/^[\w.-]+$/.test(helper)) return Promise.resolve({ problem: "is not the name of a credential helper" });
  return new Promise((resolve) => {
    const child = spawn(`docker-credential-${helper}`, ["get"], {
      env: options.environment,
      stdio: ["pipe", "pipe", "ignore"],
      detached: true,
    });
    const chunks: Buffer[] = [];
    let size = 0;

    // The helper leads a process group, so that what it has started goes with it.
    const stop = (problem: string): void => {
      settle({ problem });
      if (child.pid !== undefined) killGroup(child.pid);
    };
    const deadline = setTimeout(() => stop(`did not answer within ${options.timeoutMs} ms`), options.timeoutMs);
    const abort = (): void => stop("was stopped");
    const settle = (answer: HelperAnswer): void => {
      clearTimeout(deadline);
      options.signal?.removeEventListener("abort", abort);
      resolve(answer);
    };
    options.signal?.addEventListener("abort", abort, { once: true });
    if (options.signal?.aborted === true) abort();

    child.stdout.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size <= MAX_OUTPUT_BYTES) chunks.push(chunk);
    });
    // A helper that ends without reading its input.
    child.stdin.on("error", () => {});
    child.stdin.end(serverAddress);
    child.once("error", (error: NodeJS.ErrnoException) => {
      settle({ problem: error.code === "ENOENT" ? "is not installed" : `could not be run (${error.code ?? error.name})` });
    });
    child.once("close", (code, signalName) => settle(answerOf(code, signalName, Buffer.concat(chunks).toString("utf8"), serverAddress)));
  });
}

function answerOf(code: number | null, signalName: NodeJS.Signals | null, text: string, serverAddress: string): HelperAnswer {
  if (code === 0) return parseAnswer(text);
  if (code === null) return { problem: `was ended by ${signalName}` };
  // The one failure that helpers name by a fixed sentence.
  if (text.includes("credentials not found in native keychain")) return { problem: `has no credentials for ${serverAddress}` };
  return { problem: `ended with exit code ${code}` };
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It has just ended by itself.
  }
}

function parseAnswer(text: string): HelperAnswer {
  try {
    const { Username, Secret } = Answer.parse(JSON.parse(text));
    return { username: Username, secret: Secret };
  } catch {
    return { problem: "gave an answer that is not the JSON of a credential helper" };
  }
}
