import type { DockerEndpoint } from "@berth/runtime/docker/engine-types";
import { ApiSource } from "./api-source.ts";
import { FileSource } from "./file-source.ts";
import type { Follower } from "./follower.ts";
import { JsonFileDecoder } from "./json-file-decoder.ts";
import { LocalDecoder, rfc3339 } from "./local-decoder.ts";
import { PushedSource } from "./pushed-source.ts";
import { TextSource } from "./text-source.ts";
import type { LogPosition, LogSource } from "./types.ts";

export interface SourceRequest {
  source: LogSource;
  docker: DockerEndpoint;
  maxLineBytes: number;
  position?: LogPosition;
  /** Milliseconds since the epoch. */
  since?: number;
  /** Of dockerd's API: what is there now, and no more. */
  once?: boolean;
  onGap: (reason: string) => void;
}

/** Opens a source; a file that cannot be read gives way to dockerd's API where the container is named. Throws why it cannot. */
export async function openSource(request: SourceRequest): Promise<Follower> {
  const { source, docker, maxLineBytes, position, since, onGap } = request;
  if (source.kind === "pushed") return new PushedSource(maxLineBytes, onGap, position?.kind === "pushed" ? position : undefined);
  if (source.kind === "text") {
    const files = [
      { stream: "stdout", path: source.stdoutPath },
      { stream: "stderr", path: source.stderrPath },
    ] as const;
    const text = new TextSource({ files, maxLineBytes, onGap, ...(position?.kind === "text" ? { position } : {}) });
    try {
      text.open();
    } catch (error) {
      text.close();
      throw error;
    }
    return text;
  }
  if (source.kind !== "api") {
    const decoder = source.kind === "json-file" ? new JsonFileDecoder(maxLineBytes) : new LocalDecoder(maxLineBytes);
    const file = new FileSource({
      path: source.path,
      decoder,
      onGap,
      ...(position?.kind === "file" ? { position } : {}),
      // It was read through dockerd so far: only the record at the position itself may come twice.
      ...(position?.kind === "time" ? { since: rfc3339(BigInt(position.nanoseconds)) } : {}),
      ...(since === undefined || position?.kind === "time" ? {} : { since: new Date(since).toISOString() }),
    });
    try {
      file.open();
      return file;
    } catch (error) {
      file.close();
      if (source.containerId === undefined) throw error;
    }
  }
  const api = new ApiSource({
    docker,
    containerId: source.containerId as string,
    tty: source.tty ?? false,
    maxLineBytes,
    ...(position?.kind === "time" ? { position } : {}),
    ...(since === undefined ? {} : { since }),
    ...(request.once === undefined ? {} : { once: request.once }),
  });
  await api.open();
  return api;
}
