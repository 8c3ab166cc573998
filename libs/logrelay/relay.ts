import type { DockerEndpoint } from "@berth/runtime/docker/engine-types";

/** What the log thread is started with. */
export interface RelayStart {
  /** For sources that only dockerd can read. */
  docker: DockerEndpoint;
}
