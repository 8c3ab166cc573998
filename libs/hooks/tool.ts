import { spawn } from "node:child_process";

export interface ToolRequest {
  argv: readonly string[];
  input?: string;
  signal: AbortSignal;
  timeoutMs?: number;
}

const TIMEOUT_MS = 20_000;
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

/** Runs a program of the host to its end and returns its stdout. Rejects with its last words when it fails, or when its time is up. */
export function runTool({ argv, input, signal, timeoutMs = TIMEOUT_MS }: ToolRequest): Promise<string> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const [program = "", ...args] = argv;
  return new Promise((resolve, reject) => {
    // Nothing of the daemon's own environment, which holds credentials; what it runs often lives in sbin.
    const env = { PATH: `${process.env.PATH ?? ""}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`, LC_ALL: "C" };
    const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"], env, signal: limit, killSignal: "SIGKILL" });
    let output = "";
    let complaint = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      if (output.length > MAX_OUTPUT_BYTES) child.kill("SIGKILL");
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      complaint = (complaint + text).slice(-2000);
    });
    child.stdin.on("error", () => {}); // A program that ends early does not read everything.
    child.stdin.end(input ?? "");
    child.once("error", (error: NodeJS.ErrnoException) => {
      if (signal.aborted) reject(signal.reason);
      else if (limit.aborted) reject(new Error(`${program} did not end within ${timeoutMs / 1000} s`));
      else reject(new Error(`${program} cannot be run: ${error.code ?? error.message}; is it installed, and does berthd run as root?`));
    });
    child.once("close", (code) => {
      if (code === 0) resolve(output);
      else reject(new Error(`${argv.join(" ")} failed with exit code ${code}: ${complaint.trim()}`));
    });
  });
}
