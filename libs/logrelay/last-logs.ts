import type { DockerEndpoint } from "@berth/runtime/docker/engine-types";
import type { ByteTarget } from "./file-sink.ts";
import { readRest } from "./follower.ts";
import { LastOutput } from "./last-output.ts";
import { type Line, rawBytes } from "./line.ts";
import { openReadable } from "./log-reader.ts";
import { Segment } from "./segments.ts";
import type { LastLogs, LastLogsRequest, LogSource, StreamName } from "./types.ts";

const DEFAULT_MAX_BYTES = 8 * 1024 * 1024;
const DEFAULT_LINES = 5;
/** Far more than is shown of a line: what cuts it for a person hides the secrets in it first, and they must be whole for that. */
const MAX_STATUS_LINE = 16 * 1024;
/** What a worker is given at a time, where only it can write to the sandbox. */
const PIECE = 1024 * 1024;
const LINE_FEED = Buffer.from("\n");
const NEVER = new AbortController().signal;

/**
 * Copies what a task wrote since a moment to its sandbox, the end of it where it is too much, and returns its last lines. What
 * cannot be read is a problem in the answer, never an error: a terminal update waits for this.
 */
export async function copyLastLogs(
  request: LastLogsRequest,
  docker: DockerEndpoint,
  target: (stream: StreamName) => ByteTarget,
  signal: AbortSignal = NEVER,
): Promise<LastLogs> {
  const { source, since, maxBytes = DEFAULT_MAX_BYTES, lines: wanted = DEFAULT_LINES } = request;
  const output = new LastOutput(maxBytes);
  const last: string[] = [];
  const keep = (line: Line): void => {
    const bytes = rawBytes(line);
    if (bytes.length > 0 && wanted > 0) {
      last.push(bytes.toString("utf8", 0, MAX_STATUS_LINE));
      if (last.length > wanted) last.shift();
    }
    if (!request.alreadyInSandbox) output.add(line.stream, Buffer.concat([bytes, LINE_FEED]));
  };
  const answer = (problem?: string): LastLogs => ({
    lines: last,
    written: 0,
    truncated: output.truncated,
    ...(problem === undefined ? {} : { problem }),
  });
  if (source.kind === "pushed") return answer();
  try {
    if (source.kind === "text" && request.alreadyInSandbox) return { ...answer(), lines: lastLinesOf(source, wanted) };
    const followers = await openReadable(source, docker, since);
    try {
      for (const follower of followers) {
        await readRest(follower, signal, async () => {
          while (!signal.aborted && follower.read(keep)) await new Promise((resolve) => setImmediate(resolve));
        });
        follower.flush(keep);
      }
    } finally {
      for (const follower of followers) follower.close();
    }
  } catch (error) {
    return answer(`its log cannot be read: ${(error as Error).message}`);
  }
  return await write(output, target, answer(signal.aborted ? "its log could not be read to the end in time" : undefined), maxBytes);
}

/** The last lines that are not empty, those of stderr behind those of stdout. However long a file is, only its end is read. */
function lastLinesOf({ stdoutPath, stderrPath }: Extract<LogSource, { kind: "text" }>, wanted: number): string[] {
  const lines = [stdoutPath, stderrPath].flatMap((path) => {
    let file: Segment;
    try {
      file = Segment.open(path, true);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
    try {
      const size = file.size();
      const end = file.before(size, (wanted + 1) * MAX_STATUS_LINE);
      const found: string[] = [];
      for (let to = end.length; to > 0 && found.length < wanted; ) {
        const from = end.lastIndexOf(LINE_FEED, to - 1) + 1;
        if (to > from) found.unshift(end.toString("utf8", from, Math.min(to, from + MAX_STATUS_LINE)));
        to = from - 1;
      }
      return found;
    } finally {
      file.close();
    }
  });
  return wanted === 0 ? [] : lines.slice(-wanted);
}

async function write(
  output: LastOutput,
  target: (stream: StreamName) => ByteTarget,
  answer: LastLogs,
  maxBytes: number,
): Promise<LastLogs> {
  const result = { ...answer };
  for (const stream of ["stdout", "stderr"] as const) {
    const kept = output.of(stream);
    if (kept.length === 0) continue;
    const mark = answer.truncated ? `[earlier output left out: only the last ${maxBytes} bytes are copied]\n` : "";
    const all = Buffer.concat([Buffer.from(mark), kept]);
    try {
      for (let at = 0; at < all.length; at += PIECE) await target(stream).append(all.subarray(at, at + PIECE));
      result.written += all.length;
    } catch (error) {
      result.problem = `its ${stream} cannot be written: ${(error as Error).message}`;
    }
  }
  return result;
}
