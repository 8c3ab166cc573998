import { Demultiplexer } from "./demultiplex.ts";
import { DockerError } from "./engine-errors.ts";
import type { DockerHttp } from "./engine-http.ts";
import type { LogChunk, LogsRequest, LogsResult } from "./engine-types.ts";

const DEFAULT_MAX_BYTES = 1024 * 1024;

/** Reads what a container has written so far; `raw` for a terminal's output, which has no frames. Keeps the end of it. */
export async function readLogs(
  http: DockerHttp,
  request: LogsRequest,
  raw: boolean,
  deadlineMs: number,
  signal?: AbortSignal,
): Promise<LogsResult> {
  const limit = request.maxBytes ?? DEFAULT_MAX_BYTES;
  const chunks: LogChunk[] = [];
  let kept = 0;
  let dropped = 0;
  const keep = (stream: LogChunk["stream"], data: Buffer): void => {
    chunks.push({ stream, data: Uint8Array.from(data) });
    kept += data.length;
    while (kept > limit && chunks.length > 1) {
      const length = (chunks.shift() as LogChunk).data.length;
      kept -= length;
      dropped += length;
    }
  };
  // One deadline for the whole read: a last look at the logs must not hold up a terminal update.
  const deadline = AbortSignal.timeout(deadlineMs);
  const stream = await http.stream("logs", {
    operation: "logs",
    method: "GET",
    path: `/containers/${encodeURIComponent(request.id)}/logs`,
    query: { stdout: 1, stderr: 1, tail: request.tail ?? "all", since: moment(request.since), until: moment(request.until) },
    subject: request.id,
    deadlineMs,
    signal: signal === undefined ? deadline : AbortSignal.any([signal, deadline]),
  });
  try {
    const demultiplexer = new Demultiplexer();
    for await (const chunk of stream.response as AsyncIterable<Buffer>) {
      if (raw) keep("stdout", chunk);
      else demultiplexer.push(chunk, ({ stream: name, data }) => keep(name === "stdout" ? "stdout" : "stderr", data));
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof DockerError) throw error;
    throw new DockerError(
      `docker logs of ${request.id}: ${deadline.aborted ? `not read within ${deadlineMs / 1000} s` : (error as Error).message}`,
      {
        code: deadline.aborted ? "BERTH_DOCKER_TIMEOUT" : "BERTH_DOCKER_UNREACHABLE",
        operation: "logs",
        recoverable: true,
        cause: error,
      },
    );
  } finally {
    stream.close();
  }
  const last = chunks[0];
  if (last !== undefined && kept > limit) {
    dropped += last.data.length - limit;
    last.data = last.data.slice(last.data.length - limit);
  }
  return { chunks, dropped };
}

/** Docker takes "seconds.nanoseconds". */
function moment(nanoseconds: bigint | undefined): string | undefined {
  if (nanoseconds === undefined) return undefined;
  return `${nanoseconds / 1_000_000_000n}.${String(nanoseconds % 1_000_000_000n).padStart(9, "0")}`;
}
