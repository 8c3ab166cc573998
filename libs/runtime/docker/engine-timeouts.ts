/** Milliseconds that each kind of call to dockerd may take, its wait for a connection included. */
export interface DockerTimeouts {
  ping: number;
  version: number;
  info: number;
  inspect: number;
  list: number;
  create: number;
  connectNetwork: number;
  start: number;
  signal: number;
  remove: number;
  rename: number;
  logs: number;
  exec: number;
  pullBegin: number;
  pullSilence: number;
  eventsOpen: number;
  pingEvery: number;
}

/** All the waiting there is towards dockerd, in one place. A well dockerd answers in milliseconds; these are for the bad day. */
export const DOCKER_TIMEOUTS: DockerTimeouts = {
  // Touches no container and no lock of dockerd: when this is late, dockerd is not well.
  ping: 5_000,
  version: 10_000,
  // Asks the storage and network drivers, which may look at disks.
  info: 30_000,
  // Hangs for ever on a container whose lock is held (a stuck shim, a dead volume plugin): the caller must go on without it.
  inspect: 30_000,
  // Takes every container's lock in turn and reads the layer database on a cold start.
  list: 60_000,
  // Prepares the layer and asks volume plugins; devicemapper and network volumes have taken minutes.
  create: 240_000,
  connectNetwork: 60_000,
  // Mounts, network set-up, shim and runc; ports of a wide range are published one by one.
  start: 180_000,
  // Only delivers the signal; the grace period is the caller's.
  signal: 30_000,
  // Unmounts and deletes the layer: slow on a busy disk.
  remove: 120_000,
  rename: 30_000,
  // Reading the last lines of a large json-file backwards.
  logs: 60_000,
  // Around the command's own time limit: making and inspecting the exec.
  exec: 30_000,
  // From the request until dockerd has the manifest and says so. Registries behind a slow proxy take their time.
  pullBegin: 300_000,
  // Between two progress messages. Extracting a huge layer to a slow disk is silent for minutes.
  pullSilence: 600_000,
  // Response headers of the event stream.
  eventsOpen: 10_000,
  // How often dockerd is asked whether it is there while nothing else tells.
  pingEvery: 10_000,
};
