export type DockerErrorCode =
  /** No answer within the call's deadline; dockerd or this one container hangs. */
  | "BERTH_DOCKER_TIMEOUT"
  /** No connection, or it broke before the answer was complete. */
  | "BERTH_DOCKER_UNREACHABLE"
  /** dockerd answered with an error status. */
  | "BERTH_DOCKER_HTTP"
  /** dockerd's answer was not what its API says. */
  | "BERTH_DOCKER_PROTOCOL";

export interface DockerErrorFields {
  code: DockerErrorCode;
  /** The kind of call: "inspect", "start" … */
  operation: string;
  statusCode?: number;
  /** dockerd's own words, where it said any. */
  detail?: string;
  recoverable: boolean;
  cause?: unknown;
}

/** A call to dockerd that failed. Keeps its fields across threads; recognise it by {@link isDockerError}, not by its class. */
export class DockerError extends Error {
  override readonly name = "DockerError";
  readonly code: DockerErrorCode;
  readonly operation: string;
  readonly statusCode: number | undefined;
  readonly detail: string;
  /** True when the same call may succeed later without anybody changing anything but dockerd's health. */
  readonly recoverable: boolean;

  constructor(message: string, fields: DockerErrorFields) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.code = fields.code;
    this.operation = fields.operation;
    this.statusCode = fields.statusCode;
    this.detail = fields.detail ?? "";
    this.recoverable = fields.recoverable;
  }
}

export function isDockerError(error: unknown): error is DockerError {
  return error instanceof Error && String((error as { code?: unknown }).code).startsWith("BERTH_DOCKER_");
}

/** No answer in time: what was asked may or may not have happened. */
export function isTimeout(error: unknown): error is DockerError {
  return isDockerError(error) && error.code === "BERTH_DOCKER_TIMEOUT";
}

export function isUnreachable(error: unknown): error is DockerError {
  return isDockerError(error) && error.code === "BERTH_DOCKER_UNREACHABLE";
}

/** dockerd is not well, whatever was asked: nothing is known about the task. */
export function isDockerDown(error: unknown): error is DockerError {
  return isTimeout(error) || isUnreachable(error);
}

/** dockerd does not know the container, image, network or exec that was named. */
export function isNotFound(error: unknown): error is DockerError {
  return isDockerError(error) && error.statusCode === 404;
}

export function isConflict(error: unknown): error is DockerError {
  return isDockerError(error) && error.statusCode === 409;
}
