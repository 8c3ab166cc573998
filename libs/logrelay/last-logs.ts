import type { DockerEndpoint } from "@berth/runtime/docker/engine-types";
import type { ByteTarget } from "./file-sink.ts";
import { readRest } from "./follower.ts";
import { type Line, rawBytes } from "./line.ts";
import { openReadable } from "./log-reader.ts";
import type { LastLogs, LastLogsRequest, StreamName } from "./types.ts";

const DEFAULT_MAX_BYTES = 8 * 1024 * 1024;
const DEFAULT_LINES = 5;
/** Far more than is shown of a line: what cuts it for a person hides the secrets in it first, and they must be whole for that. */
const MAX_STATUS_LINE = 16 * 1024;
const COMPACT_AT = 10_000;
/** What a worker is given at a time, where only it can write to the sandbox. */
const PIECE = 1024 * 1024;
const LINE_FEED = Buffer.from("\n");

/**
 * Copies what a task wrote since a moment to its sandbox, the end of it where it is too much, and returns its last lines. What
 * cannot be read is a problem in the answer, never an error: a terminal update waits for this.
 */
export async function copyLastLogs(
  request: LastLogsRequest,
  docker: DockerEndpoint,
  target: (stream: StreamName) => ByteTarget,
  signal?: AbortSignal,
): Promise<LastLogs> {
  const { source, since, maxBytes = DEFAULT_MAX_BYTES, lines: wanted = DEFAULT_LINES } = request;
  const kept: Array<{ stream: StreamName; bytes: Buffer }> = [];
  let bytes = 0;
  let first = 0;
  let truncated = false;
  const last: string[] = [];
  const keep = (line: Line): void => {
    let copy = Buffer.concat([rawBytes(line), LINE_FEED]);
    if (line.end > line.start && wanted > 0) {
      last.push(copy.toString("utf8", 0, Math.min(copy.length - 1, MAX_STATUS_LINE)));
      if (last.length > wanted) last.shift();
    }
    if (request.alreadyInSandbox) return;
    if (copy.length > maxBytes) {
      copy = copy.subarray(copy.length - maxBytes);
      truncated = true;
    }
    kept.push({ stream: line.stream, bytes: copy });
    bytes += copy.length;
    while (bytes > maxBytes && first < kept.length) {
      bytes -= (kept[first] as { bytes: Buffer }).bytes.length;
      kept[first++] = { stream: line.stream, bytes: Buffer.alloc(0) };
      truncated = true;
    }
    // Of an output without end no trace is kept of each line.
    if (first > COMPACT_AT && first > kept.length / 2) {
      kept.splice(0, first);
      first = 0;
    }
  };
  const answer = (problem?: string): LastLogs => ({ lines: last, written: 0, truncated, ...(problem === undefined ? {} : { problem }) });
  if (source.kind === "pushed") return answer();
  const until = signal ?? new AbortController().signal;
  try {
    const followers = await openReadable(source, docker, since);
    try {
      for (const follower of followers) {
        await readRest(follower, until, async () => {
          while (!until.aborted && follower.read(keep)) await new Promise((resolve) => setImmediate(resolve));
        });
        follower.flush(keep);
      }
    } finally {
      for (const follower of followers) follower.close();
    }
  } catch (error) {
    return answer(`its log cannot be read: ${(error as Error).message}`);
  }
  return await write(
    kept.slice(first),
    target,
    answer(signal?.aborted ? "its log could not be read to the end in time" : undefined),
    maxBytes,
  );
}

async function write(
  kept: Array<{ stream: StreamName; bytes: Buffer }>,
  target: (stream: StreamName) => ByteTarget,
  answer: LastLogs,
  maxBytes: number,
): Promise<LastLogs> {
  const result = { ...answer };
  for (const stream of ["stdout", "stderr"] as const) {
    const pieces = kept.filter((piece) => piece.stream === stream).map((piece) => piece.bytes);
    if (pieces.length === 0) continue;
    if (answer.truncated) pieces.unshift(Buffer.from(`[earlier output left out: only the last ${maxBytes} bytes are copied]\n`));
    const all = Buffer.concat(pieces);
    try {
      for (let at = 0; at < all.length; at += PIECE) await target(stream).append(all.subarray(at, at + PIECE));
      result.written += all.length;
    } catch (error) {
      result.problem = `its ${stream} cannot be written: ${(error as Error).message}`;
    }
  }
  return result;
}
